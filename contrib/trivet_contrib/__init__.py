"""Ready connectors for Trivet, one package each, enabled by name as plugins are.

Owns nothing but the name; each connector has its client, its plugin and its README.
Never knows Trivet's private modules: connectors import what any plugin may.
"""
