"""Puts generators/ and configs/ inside the package in a wheel; a checkout finds them in place."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":  # a wheel; an editable install is a checkout
            for folder in ("generators", "configs"):
                build_data["force_include"][folder] = f"jaxfdsl/{folder}"
