"""
An election as a game
=====================

Ballots say how many voters prefer one candidate to another. Who wins against everybody is
elected; where nobody does, the equilibrium is a lottery.
"""

import matplotlib.pyplot as plt

from prefsim.analysis import elect
from prefsim.worlds import synthetic_ballots

election = elect(synthetic_ballots())

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
shown = axes[0].imshow(election.game.preference, cmap="RdBu", vmin=0, vmax=1)
axes[0].set(title="share that prefers row to column", xticks=range(4), yticks=range(4))
figure.colorbar(shown, ax=axes[0])
axes[1].barh(election.labels, election.equilibrium)
axes[1].set(title="equilibrium", xlabel="probability")
axes[1].invert_yaxis()
plt.show()
