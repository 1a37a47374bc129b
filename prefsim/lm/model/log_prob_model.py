"""The torch module that is trained.

A causal language model whose forward returns log-probabilities instead of logits.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from prefsim.lm.model.head import Head
from prefsim.lm.model.log_probs import token_log_probs, token_statistics
from prefsim.lm.model.router import has_router_loss, router_loss
from prefsim.lm.model.tiled import TokenStatistics
from prefsim.lm.model.token_masks import TokenMasks
from prefsim.lm.model.tokens import TokenBatch

__all__ = [
    "LogProbModel",
    "adapters_off",
    "body_output",
    "computing_device",
    "disable_dropout",
    "evaluating",
    "is_adapted",
    "whole_tensor",
]


def is_adapted(model: Any) -> bool:
    """Return whether the model carries peft adapters."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


@contextlib.contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Switch the adapters of a peft model off.

    Which parameters are trained is the same afterwards.
    """
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for parameter, flag in trained:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put the module into evaluation mode without gradients, and every part back as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def whole_tensor(value: Any) -> Any:
    """Return a tensor that is sharded over processes as one, any other as it is.

    Every process must call.
    """
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def computing_device(module: torch.nn.Module) -> torch.device:
    """Return where a module's parameters are, or are brought to where FSDP keeps them in memory."""
    parameter: Any = next(module.parameters())
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None or mesh.device_type == parameter.device.type:
        return parameter.device
    return torch.device(mesh.device_type, torch.accelerator.current_device_index())


def disable_dropout(module: torch.nn.Module) -> None:
    """Set rates of dropout and noise to zero: log-ratios to a reference are noise otherwise."""
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            # PhiMoE shakes its router in training.
            if ("dropout" in name or "jitter" in name) and isinstance(value, float):
                setattr(part, name, 0.0)


def _logit_factor(config: Any) -> float:
    """Return what the architecture multiplies its logits by."""
    # Each family has its own name for it.
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    # HyperCLOVA X multiplies by what Granite and the others of this name divide by.
    return float(scaling) if config.model_type == "hyperclovax" else 1 / float(scaling)


def _linear(module: Any, adapters: bool) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of an output layer, seen through peft's wrappers."""
    if hasattr(module, "modules_to_save") and hasattr(module, "original_module"):
        if hasattr(module, "active_adapters"):
            active = module.active_adapters
        else:
            active = [module.active_adapter]
        in_force = adapters and not module.disable_adapters and bool(active)
        if in_force and active[0] in module.modules_to_save:
            return _linear(module.modules_to_save[active[0]], adapters)
        return _linear(module.original_module, adapters)
    if hasattr(module, "get_base_layer") and hasattr(module, "get_delta_weight"):
        base = module.get_base_layer()
        weight = base.weight
        if adapters and not module.disable_adapters and not module.merged:
            for name in module.active_adapters:
                if name in module.lora_A:
                    weight = weight + module.get_delta_weight(name).to(weight.dtype)
        return weight, getattr(base, "bias", None)
    return module.weight, getattr(module, "bias", None)


# Which sequence of its row each token of the batch that is computed belongs to; None where a row
# holds one; nothing where that is not known.
_sequences = contextvars.ContextVar[tuple[Tensor | None, ...]]("sequences", default=())


@functools.cache
def _spare_transformers_a_look() -> None:
    """Keep transformers from reading off the device what is known of a batch, once a process.

    In every forward without a mask it looks whether a row holds several sequences, by the places of
    the tokens, and the device is waited for.
    """
    from transformers import masking_utils

    name = "find_packed_sequence_indices"
    look = getattr(masking_utils, name, None)
    if look is None:
        return

    @functools.wraps(look)
    def found(position_ids: Tensor) -> Any:
        known = _sequences.get()
        return known[0] if known else look(position_ids)

    setattr(masking_utils, name, found)


@contextlib.contextmanager
def _with_sequences(known: Tensor | None) -> Iterator[None]:
    _spare_transformers_a_look()
    token = _sequences.set((known,))
    try:
        yield
    finally:
        _sequences.reset(token)


def body_output(body: Any, batch: TokenBatch, **options: Any) -> Any:
    """Return what a model of transformers without its head gives for a batch."""
    if batch.position_ids is not None:
        # Without a mask transformers makes one of the places, of the kind that each layer takes.
        options["position_ids"] = batch.position_ids
        with _with_sequences((batch.position_ids == 0).cumsum(dim=1)):
            return body(input_ids=batch.input_ids, use_cache=False, **options)
    if not batch.is_left_aligned:
        mask = batch.attention_mask.long()
        options["attention_mask"] = mask
        # Counted from the first real token, so that the side of the padding changes no position.
        options["position_ids"] = (mask.cumsum(dim=1) - 1).clamp_min(0)
    # Behind the tokens no padding is seen by any of them, and places count from the first: the
    # plain causal attention is what a mask would make, without being read.
    with _with_sequences(None) if batch.is_left_aligned else contextlib.nullcontext():
        return body(input_ids=batch.input_ids, use_cache=False, **options)


class LogProbModel(torch.nn.Module):
    """A causal language model of transformers whose forward returns log-probabilities.

    With or without peft adapters. Wrap this module, not the model inside, for distributed training:
    its forward meets all parameters that are trained, the head included.

    Parameters
    ----------
    model
        A ``PreTrainedModel`` with a language-modelling head, or a ``PeftModel`` around one.
    masks
        What gives tokens their weights, for losses that take some; trained along where it learns.

    Raises
    ------
    ValueError
        If the model's own logits are not those of its head on its last hidden states (up to a soft
        cap and a constant factor in its configuration), or if its adapters are not inside its
        layers (prompt tuning).
    """

    def __init__(self, model: Any, masks: TokenMasks | None = None) -> None:
        super().__init__()
        self.model, self.masks = model, masks
        if is_adapted(model) and any(
            config.is_prompt_learning for config in model.peft_config.values()
        ):
            raise ValueError(
                "adapters must live inside the layers (LoRA and its like); prompt tuning is not"
                " supported"
            )
        config = self.plain.config.get_text_config()
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.logit_factor = _logit_factor(config)
        # A model without memory, of which only the sizes are asked, computes nothing.
        if not any(parameter.is_meta for parameter in model.parameters()):
            self._check_head()

    @property
    def plain(self) -> Any:
        """The ``PreTrainedModel`` itself, without peft's wrapper (adapters are in its layers)."""
        return self.model.get_base_model() if is_adapted(self.model) else self.model

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return computing_device(self.model)

    def head(self, *, adapters: bool = True) -> Head:
        """Return weight, bias and soft cap of the last layer."""
        return Head(*_linear(self.plain.get_output_embeddings(), adapters), self.softcap)

    def states(self, batch: TokenBatch, *, adapters: bool = True) -> tuple[Tensor, Head]:
        """Return the last hidden states ``(B, T, d)`` as the head takes them, and the head."""
        if not adapters and is_adapted(self.model):
            with adapters_off(self.model):
                return self.states(batch)
        return self._hidden(self._output(batch)), self.head()

    def layer_states(
        self, batch: TokenBatch, *, adapters: bool = True
    ) -> tuple[Tensor, Head, tuple[Tensor, ...]]:
        """Return what :meth:`states` does, and the states behind every layer ``(B, T, d)``."""
        if not adapters and is_adapted(self.model):
            with adapters_off(self.model):
                return self.layer_states(batch)
        output = self._output(batch, output_hidden_states=True)
        # The first are the embeddings of the tokens.
        return self._hidden(output), self.head(), tuple(output.hidden_states[1:])

    def _output(self, batch: TokenBatch, **options: Any) -> Any:
        """Return what the model without its head gives."""
        return body_output(self.body, batch, **options)

    @property
    def body(self) -> Any:
        """The model without its head."""
        body = self.plain.base_model
        if body is not self.plain:
            return body
        # Llama 4 names as its base what only its multimodal form has.
        words = self.plain.get_input_embeddings()
        return next(
            part for part in self.plain.children() if any(each is words for each in part.modules())
        )

    def _hidden(self, output: Any) -> Tensor:
        hidden: Tensor = output.last_hidden_state
        if hidden.is_cuda and torch.is_autocast_enabled("cuda"):
            # A norm with float32 weights leaves it wide, and the head would be multiplied so, at a
            # fraction of the rate; under autocast the model's own head reads it narrow too.
            hidden = hidden.to(torch.get_autocast_dtype("cuda"))
        return hidden if self.logit_factor == 1.0 else hidden * self.logit_factor

    def forward(
        self,
        batch: TokenBatch,
        *,
        adapters: bool = True,
        collision: bool = False,
        ref_hidden: Tensor | None = None,
        ref_head: Head | None = None,
        ref_layers: Sequence[Tensor] | None = None,
    ) -> TokenStatistics:
        """Return log-probabilities ``(B, T)`` of the completion's tokens, 0 elsewhere.

        Differentiable.

        ``collision`` and a reference's states and head add what
        :func:`~prefsim.lm.token_statistics` says, the states behind its layers the weights of the
        masks; a model that is trained with a router's loss adds that.
        """
        if ref_layers is not None and self.masks is not None:
            # The masks are met by the forward that training wraps, as all that is trained.
            weights = self.masks(ref_layers, batch)
            statistics = self(
                batch,
                adapters=adapters,
                collision=collision,
                ref_hidden=ref_hidden,
                ref_head=ref_head,
            )
            return statistics._replace(reward_weight=weights.reward, kl_weight=weights.kl)
        if not (self.training and adapters and has_router_loss(self.plain)):
            hidden, head = self.states(batch, adapters=adapters)
            return self._statistics(hidden, head, batch, collision, ref_hidden, ref_head)
        output = self._output(batch, output_router_logits=True)
        statistics = self._statistics(
            self._hidden(output), self.head(), batch, collision, ref_hidden, ref_head
        )
        mask = batch.attention_mask.long()
        return statistics._replace(router_loss=router_loss(self.plain, output.router_logits, mask))

    def _statistics(
        self,
        hidden: Tensor,
        head: Head,
        batch: TokenBatch,
        collision: bool,
        ref_hidden: Tensor | None,
        ref_head: Head | None,
    ) -> TokenStatistics:
        positions = None if batch.scored is None else batch.scored.positions
        if collision or ref_hidden is not None or ref_head is not None:
            return token_statistics(
                hidden,
                head,
                batch.input_ids,
                batch.completion_mask,
                collision=collision,
                ref_hidden=ref_hidden,
                ref_head=ref_head,
                positions=positions,
            )
        logp = token_log_probs(
            hidden,
            head.weight,
            batch.input_ids,
            batch.completion_mask,
            head_bias=head.bias,
            softcap=head.softcap,
            positions=positions,
        )
        return TokenStatistics(logp=logp)

    def _check_head(self) -> None:
        """Raise unless the model's own logits are its head's on its last hidden states."""
        vocabulary = len(self.head().weight)
        # Four tokens are enough: a factor, a cap or a layer in between changes all logits.
        ids = (torch.arange(4, device=self.device) % vocabulary)[None]
        here = torch.ones_like(ids, dtype=torch.bool)
        with evaluating(self.model):
            expected = self.model(input_ids=ids, use_cache=False).logits.float()
            hidden, head = self.states(TokenBatch(ids, here, here))
            bias = None if head.bias is None else head.bias.float()
            ours = torch.nn.functional.linear(hidden.float(), head.weight.float(), bias)
            if head.softcap is not None:
                ours = head.softcap * torch.tanh(ours / head.softcap)
        error = float("inf")
        if ours.shape == expected.shape:
            error = (ours - expected).abs().max().item()
        # Rounding of half precision over a whole model, and of float32; a wrong head is off by more
        # than the logits themselves. Not `error > tolerance`: NaN is an error too.
        narrow = hidden.dtype in (torch.float16, torch.bfloat16)
        tolerance = 5e-2 if narrow else 1e-3
        if not error <= tolerance * (1 + expected.abs().max().item()):
            name = type(self.plain).__name__
            raise ValueError(
                f"the logits of {name} must be its output layer on its last hidden states, got a"
                f" difference of {error:.3g}"
            )
