"""A pytest plugin for the planted bugs: properties try the same examples each time and shrink nothing."""

from hypothesis import Phase, settings

settings.register_profile("quick", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("quick")
