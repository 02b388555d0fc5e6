"""The plugin whose service is measured beside the bare application."""

from trivet import BackgroundPlugin, route


class Hello(BackgroundPlugin):
    """A plugin with one route."""

    @route("/hello")
    async def hello(self) -> dict[str, str]:
        """Say hello."""
        return {"hello": "world"}
