"The laboratory for training GANs with (sub)gradient methods."
__version__ = "0.1.0"

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_nb.recipes import Recipe, recipe, recipes
    from gan_nb.training import Run

__all__ = ['Run', 'Recipe', 'recipe', 'recipes']

_rooms = {'Run': 'gan_nb.training', 'Recipe': 'gan_nb.recipes', 'recipe': 'gan_nb.recipes'}


class _Package(ModuleType):
    "Names and rooms are imported when they are asked for: PyTorch takes seconds, and a server or `--help` needs none."
    def __getattr__(self, name):
        if name in _rooms: return getattr(import_module(_rooms[name]), name)
        room = f'gan_nb.{name}'
        try:
            if name[:1] != '_': return import_module(room)
        except ModuleNotFoundError as error:
            if error.name != room: raise
        raise AttributeError(f"module 'gan_nb' has no attribute {name!r}")

    @property
    def recipes(self):
        "The function, although the room that it stands in has the same name."
        return import_module('gan_nb.recipes').recipes

    @recipes.setter
    def recipes(self, room): "Python sets a room that it has imported; the function stays."

    def __dir__(self): return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
