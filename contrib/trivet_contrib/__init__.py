"""Ready connectors for Trivet, one package each; a plugin is enabled by its name.

Owns the name alone. Each connector has its client, its plugins and its README.
Never knows Trivet's private modules: a connector imports what any plugin may import.
"""
