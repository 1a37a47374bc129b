"""A token tree on which a tiny transformer is its own table, and a game among its sequences."""

import numpy as np

from prefsim.lm import as_rows, reward_judge, tree_completions, tree_judge
from prefsim.worlds import PreferenceGame, TokenTree

TREE = TokenTree.random(3, 2, seed=0, end_token=2, n_contexts=2)
PROMPTS = [[0], [1]]
GAME = PreferenceGame.random(TREE.n_sequences, seed=3, batch_shape=(2,)).preference
LEAVES = tree_completions(TREE)
PLACES = {tuple(leaf): i for i, leaf in enumerate(LEAVES)}
EXACT = tree_judge(TREE, GAME, PROMPTS)
LENGTH = reward_judge(lambda prompt, completion: len(completion))


def rows(*lists):
    return as_rows([list(each) for each in lists], depth=2)


def total_variation(first, second):
    return 0.5 * np.abs(first - second).sum(axis=-1).max()
