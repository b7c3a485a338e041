"The laboratory for training GANs with (sub)gradient methods."
__version__ = "0.1.0"

from gan_nb.recipes import Recipe, recipe, recipes
from gan_nb.training import Run

__all__ = ['Run', 'Recipe', 'recipe', 'recipes']
