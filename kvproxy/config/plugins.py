"""Plugins of providers, found by the entry-point group ``kvproxy.providers``."""

from __future__ import annotations

from importlib.metadata import entry_points

from kvproxy.provider import Plugin

GROUP = "kvproxy.providers"


class PluginError(Exception):
    """A configured provider has no usable plugin; the message names it and the reason."""


def plugin_names() -> list[str]:
    """Return the names of all plugins that are installed, sorted; none is loaded."""
    return sorted(entry_points(group=GROUP).names)


def load_plugin(name: str) -> Plugin:
    """Load the plugin ``name``; raises `PluginError`."""
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise PluginError(f"provider `{name}`: no plugin of this name is installed")
    entry_point = next(iter(found))
    try:
        plugin = entry_point.load()
    except Exception as error:
        # A plugin is foreign code; whatever it raises, the message must name it.
        raise PluginError(f"provider `{name}`: {error}") from error
    if not isinstance(plugin, Plugin):
        raise PluginError(f"provider `{name}`: {entry_point.value} is no Plugin")
    if plugin.open_source is None and plugin.open_store is None:
        raise PluginError(f"provider `{name}`: neither a store nor a source")
    return plugin
