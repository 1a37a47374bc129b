"""How much each token of a response counts, read off the states of the reference.

Learned along with the policy (SparsePO), or the states themselves, rescaled (MaPO).
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prefsim.backend import Seed
from prefsim.checks import check_flag, check_integer, check_interval
from prefsim.lm.model.seeding import seeded
from prefsim.lm.model.tokens import TokenBatch
from prefsim.losses.token_weights import activation_weights, relu_weights

__all__ = [
    "ActivationMasks",
    "LearnedMasks",
    "MASKS",
    "TokenMasks",
    "TokenWeights",
    "made_masks",
    "put_masks",
    "save_masks",
    "stored_masks",
]

# Beside the model that they were trained with.
FILE = "token_masks.safetensors"


class TokenWeights(NamedTuple):
    """Weights of log-ratios and of KL divergences, ``(B, T)``: 0 where nothing is scored."""

    reward: Tensor
    kl: Tensor


class TokenMasks(torch.nn.Module):
    """What gives every token of a response its weights, from the states of the reference.

    A token's weights are read off the states before it, those that the reference predicts it from:
    of the token itself they know nothing.
    """

    #: What the file of these masks says that they are.
    kind: str

    @abstractmethod
    def forward(self, layers: Sequence[Tensor], batch: TokenBatch) -> TokenWeights:
        """Return the weights of a batch.

        Parameters
        ----------
        layers
            States behind each of the L layers, ``(B, T, d)``, constants of differentiation.
        batch
            The sequences.
        """

    @property
    def settings(self) -> dict[str, str]:
        """What they are made with again, beside their parameters, as text by name."""
        return {}

    def check_fits(self, config: Any) -> None:
        """Raise a ValueError unless they can read the states of models of a configuration."""
        return None


class _Unit(torch.nn.Module):
    """One weight of every state: a ReLU unit for each layer, and one that mixes them."""

    def __init__(self, layers: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        # So small that no state turns a unit off from the start, where it would stay off.
        bound = 0.3 * width**-0.5
        self.weight = torch.nn.Parameter(torch.empty(layers, width).uniform_(-bound, bound))
        self.bias = torch.nn.Parameter(torch.ones(layers))
        self.mixer = torch.nn.Parameter(torch.full((layers,), 1 / layers))
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Return the weights ``(n,)`` of states ``(L, n, d)``."""
        of_layers = self.dropout(relu_weights(self.norm(states), self.weight, self.bias))
        weights: Tensor = self.dropout(relu_weights(of_layers.T, self.mixer))
        return weights


class LearnedMasks(TokenMasks):
    r"""The masks of SparsePO, trained along with the policy: many weights become exactly zero.

    .. math:: m_t = \max\Big(0, \sum_l c_l \max\big(0, w_l \cdot \mathrm{LN}(h^l_t) + b_l\big)\Big)

    with the state :math:`h^l_t` behind layer l of the reference before token t. They start near
    one, so that training starts near :func:`prefsim.losses.tdpo1`.

    Parameters
    ----------
    layers, width
        L and d of the reference.
    common
        Whether log-ratios and divergences have the same weights, or a unit each.
    dropout
        Of what each layer says and of the weights, in training, in [0, 1).
    seed
        Of :math:`w_l`; None goes on with torch's own generator.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Christopoulou et al. 2024, section 3, arXiv:2410.05102. Their release starts from random
    mixtures around zero, of which a part is off from the start; here all are on.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        *,
        seed: Seed | None,
        common: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer(low=1, layers=layers, width=width)
        check_flag(common=common)
        check_interval(dropout=dropout, low=0.0, high=1.0, closed="left")
        self.rate = float(dropout)
        with contextlib.nullcontext() if seed is None else seeded(seed):
            self.reward = _Unit(layers, width, self.rate)
            self.kl = None if common else _Unit(layers, width, self.rate)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """Whether weights are common or independent."""
        return "common" if self.kl is None else "independent"

    @property
    def settings(self) -> dict[str, str]:
        """The sizes and the rate of dropout."""
        layers, width = self.reward.weight.shape
        return {"layers": str(layers), "width": str(width), "dropout": repr(self.rate)}

    def check_fits(self, config: Any) -> None:
        """Raise unless models of the configuration have the layers, and the width, of the masks."""
        text, (layers, width) = config.get_text_config(), self.reward.weight.shape
        if (text.num_hidden_layers, text.hidden_size) != (layers, width):
            raise ValueError(
                f"the masks are for a reference of {layers} layers of width {width}, got"
                f" {text.num_hidden_layers} of width {text.hidden_size}"
            )

    def forward(self, layers: Sequence[Tensor], batch: TokenBatch) -> TokenWeights:
        """Return the weights of the tokens of a batch, differentiable in the units."""
        positions = _scored(batch)
        # As wide as the units, which are small: their zeros are to be those of no precision.
        with torch.autocast(layers[0].device.type, enabled=False):
            states = torch.stack([_before(each, positions) for each in layers])
            states = states.to(self.reward.weight.dtype)
            reward = _spread(self.reward(states), positions, batch)
            kl = reward if self.kl is None else _spread(self.kl(states), positions, batch)
        return TokenWeights(reward, kl)


class ActivationMasks(TokenMasks):
    """The masks of MaPO, which nothing trains: states of the reference, rescaled to [0, 1].

    The mean of each state over its units, rescaled over the tokens of each response and averaged
    over layers (:func:`prefsim.losses.activation_weights`).

    References
    ----------
    Christopoulou et al. 2024, section 3 (MaPO), arXiv:2410.05102, where activations of attention
    and of feed-forward layers and the logits are averaged in too.
    """

    kind = "activations"

    def forward(self, layers: Sequence[Tensor], batch: TokenBatch) -> TokenWeights:
        """Return the weights of the tokens of a batch, constants of differentiation."""
        positions = _scored(batch)
        means = [_before(each, positions).float().mean(dim=-1) for each in layers]
        if batch.scored is None:
            tables = torch.stack([_spread(each, positions, batch) for each in means], dim=-2)
            weights = activation_weights(tables, batch.completion_mask)
            return TokenWeights(weights, weights)
        # By sequence, of which a row may hold several.
        _, places, width, counts = batch.scored
        empty = means[0].new_zeros(len(counts) * width)
        tables = torch.stack(
            [empty.index_copy(0, places, each).reshape(-1, width) for each in means], dim=-2
        )
        is_token = empty.bool().index_fill(0, places, True).reshape(-1, width)
        by_token = activation_weights(tables, is_token).reshape(-1).index_select(0, places)
        weights = _spread(by_token, positions, batch)
        return TokenWeights(weights, weights)


def _scored(batch: TokenBatch) -> Tensor:
    """Return the flat positions of the tokens of responses."""
    if batch.scored is not None:
        return batch.scored.positions
    return batch.completion_mask.reshape(-1).nonzero()[:, 0]


def _before(states: Tensor, positions: Tensor) -> Tensor:
    """Return the states ``(n, d)`` that tokens at flat positions are predicted from."""
    return states.detach().reshape(-1, states.shape[-1]).index_select(0, positions - 1)


def _spread(values: Tensor, positions: Tensor, batch: TokenBatch) -> Tensor:
    """Return numbers of scored tokens where the tokens stand, ``(B, T)``, 0 elsewhere."""
    empty = values.new_zeros(batch.input_ids.numel())
    return empty.index_copy(0, positions, values).reshape(batch.input_ids.shape)


MASKS = ("common", "independent", "activations")
"""What masks there are."""


def made_masks(
    kind: str, config: Any, *, seed: Seed | None, dropout: float = 0.0
) -> TokenMasks | None:
    """Return fresh masks of one of :data:`MASKS` for models of a configuration, or None."""
    if kind == "activations":
        return ActivationMasks()
    if kind not in MASKS:
        return None
    text = config.get_text_config()
    return LearnedMasks(
        text.num_hidden_layers,
        text.hidden_size,
        common=kind == "common",
        dropout=dropout,
        seed=seed,
    )


# --- on disk ---


def save_masks(masks: TokenMasks | None, folder: Path) -> None:
    """Write masks beside a model, or remove those that another left there."""
    if masks is None:
        (folder / FILE).unlink(missing_ok=True)
        return
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in masks.named_parameters()}
    save_file(tensors, folder / FILE, metadata={"kind": masks.kind} | masks.settings)


def stored_masks(folder: Path) -> TokenMasks | None:
    """Return the masks that lie beside a model, or None.

    Raises
    ------
    ValueError
        If the file is none of masks.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            said = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if said["kind"] == ActivationMasks.kind:
            return ActivationMasks().eval()
        masks = LearnedMasks(
            int(said["layers"]),
            int(said["width"]),
            common=said["kind"] == "common",
            dropout=float(said["dropout"]),
            seed=0,
        )
        masks.to(tensors["reward.weight"].dtype)
        masks.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{str(file)!r} must hold masks of tokens, got {error}") from error
    return masks.eval()


def put_masks(masks: TokenMasks | None, folder: Path) -> None:
    """Put the parameters of stored masks into others of the same sizes, in place."""
    stored = stored_masks(folder)
    if masks is not None and stored is not None:
        masks.load_state_dict(stored.state_dict())
