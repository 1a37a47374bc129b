"""Games.

Preferences that no reward explains make a game between two policies. `nash_md` states it, with a
penalty towards a reference. The others differ in how they step towards its equilibrium: `sppo`,
`dno` and `spo_minimax` by multiplicative weights against the last policy, whose average
converges; `inpo` by mirror descent with the penalty, from labels alone; `egpo` by looking a step
ahead, so that the last policy converges; `apo` by momentum, which helps where one response beats
all others and hurts on a circle. `gpm` is the model of such preferences. `copg` and `p3o` step by
policy gradients on differences of rewards, and `srpo` plays a generator against an improver
offline.
"""
