"""A causal language model as a policy.

Log-probabilities of completions, samples, and the references made from it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator
from prefsim.checks import check_choice, check_integer, check_interval, check_positive
from prefsim.lm.model.digests import DIGESTS
from prefsim.lm.model.limits import check_new_tokens, check_positions
from prefsim.lm.model.loading import (
    library,
    load_model,
    load_tokenizer,
    with_adapter,
)
from prefsim.lm.model.log_prob_model import (
    LogProbModel,
    disable_dropout,
    evaluating,
    is_adapted,
)
from prefsim.lm.model.log_probs import sum_log_probs
from prefsim.lm.model.sampling import sampled_completions
from prefsim.lm.model.seeding import seeded
from prefsim.lm.model.text_model import TextModel
from prefsim.lm.model.token_masks import MASKS, made_masks, save_masks, stored_masks
from prefsim.lm.model.tokens import Ids, Text, batches_by_length, collate

__all__ = ["CausalLM"]


@readable
@dataclass(frozen=True, eq=False)
class CausalLM(TextModel):
    """A language model that answers prompts.

    Prompts and completions are text, chat messages or lists of token ids. Evaluate with
    :meth:`log_prob`, :meth:`token_log_probs` and :meth:`sample`, none of which tracks gradients;
    train through :attr:`log_prob_model`, whose forward does.

    Parameters
    ----------
    log_prob_model
        The torch module, see :class:`~prefsim.lm.LogProbModel`.
    tokenizer
        A transformers tokenizer, or ``None`` for token ids alone.
    append_eos
        Whether completions given as text end with the end-of-sequence token, and so are scored for
        ending where they do. Completions given as token ids are always scored as they are.
    adapters
        False for the model with its adapters switched off.
    chat_template_kwargs
        What the tokenizer's chat template gets besides the messages, such as
        ``{"enable_thinking": False}``; ``dataclasses.replace`` gives a loaded policy its own.
    """

    log_prob_model: LogProbModel
    tokenizer: Any = None
    append_eos: bool = True
    adapters: bool = True
    chat_template_kwargs: Mapping[str, Any] | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: str = "auto",
        device: str | torch.device | None = None,
        adapter: Any = None,
        seed: Seed = 0,
        append_eos: bool = True,
        **options: Any,
    ) -> Self:
        """Load model and tokenizer from a folder or from the hub.

        Parameters
        ----------
        path
            Folder or hub id of a model; or of adapters, which bring the model that they are for and
            are trained on. Masks of tokens that lie in the folder come along.
        dtype
            ``"auto"`` (as stored), ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"float64"``.
        device
            Where the model goes; ``None`` leaves it in memory, for training to place it.
        adapter
            ``None``, a peft configuration such as ``LoraConfig`` for fresh adapters, or the folder
            or hub id of trained ones.
        seed
            Of the weights of fresh adapters.
        append_eos
            See the class.
        **options
            Passed to ``AutoModelForCausalLM.from_pretrained``, such as ``revision`` and
            ``attn_implementation``.

        Raises
        ------
        ModuleNotFoundError
            If transformers (or peft, for adapters) is not installed.
        ValueError
            If there is no such model, its tokenizer cannot be loaded, ``adapter`` would take the
            place of adapters that are there, or as :class:`~prefsim.lm.LogProbModel`.
        """
        check_choice(("auto", "float32", "bfloat16", "float16", "float64"), dtype=dtype)
        model = load_model(path, dtype, **options)
        tokenizer = load_tokenizer(path, **options)
        policy = cls.from_model(
            model, tokenizer, adapter=adapter, seed=seed, device=device, append_eos=append_eos
        )
        masks = stored_masks(Path(path))
        policy.log_prob_model.masks = None if masks is None else masks.to(policy.device)
        return policy

    @classmethod
    def from_config(
        cls,
        config: Any,
        tokenizer: Any = None,
        *,
        seed: Seed,
        dtype: str = "float32",
        device: str | torch.device | None = None,
        adapter: Any = None,
        append_eos: bool = True,
    ) -> Self:
        """Return a model with random weights from a transformers configuration.

        They are the same for the same seed.
        """
        transformers: Any = library("transformers")
        check_choice(("float32", "bfloat16", "float16", "float64"), dtype=dtype)
        with seeded(seed):
            auto = transformers.AutoModelForCausalLM
            model = auto.from_config(config, dtype=getattr(torch, dtype))
            # Fresh adapters are drawn on from here.
            return cls.from_model(
                model,
                tokenizer,
                adapter=adapter,
                seed=None,
                device=device,
                append_eos=append_eos,
            )

    @classmethod
    def from_model(
        cls,
        model: Any,
        tokenizer: Any = None,
        *,
        adapter: Any = None,
        seed: Seed | None = 0,
        device: str | torch.device | None = None,
        append_eos: bool = True,
    ) -> Self:
        """Return the policy of a model that is in memory (taken over, not copied).

        Its dropout is switched off. Fresh adapters are drawn by ``seed``; None takes torch's own
        generator as it is.

        Raises
        ------
        ValueError
            If ``adapter`` would take the place of adapters that the model carries.
        """
        if adapter is not None:
            model = with_adapter(model, adapter, seed)
        if device is not None:
            model = model.to(device)
        disable_dropout(model)
        model.eval()
        return cls(LogProbModel(model), tokenizer, append_eos)

    @property
    def model(self) -> Any:
        """The transformers or peft model."""
        return self.log_prob_model.model

    @property
    def module(self) -> LogProbModel:
        """What training wraps: the torch module with every parameter."""
        return self.log_prob_model

    @property
    def plain(self) -> Any:
        """The ``PreTrainedModel`` itself, without peft's wrapper."""
        return self.log_prob_model.plain

    def with_module(self, module: LogProbModel) -> Self:
        """Return the same policy around another module."""
        return replace(self, log_prob_model=module)

    def token_log_probs(
        self, prompts: Sequence[Text], completions: Sequence[Text], *, batch_size: int = 8
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probability of every token of the completions, and which are tokens.

        Each ``(n, longest completion)``; in nats, 0 behind the end, and boolean. In float32, or
        float64 for a float64 model, on the device of the model.
        """
        check_integer(low=1, batch_size=batch_size)
        rows = self.encode(prompts, completions)
        counts = torch.tensor([len(row.completion_ids) for row in rows], dtype=torch.int64)
        width = int(counts.max()) if rows else 0
        mask = (torch.arange(width) < counts[:, None]).to(self.device)
        log_probs = torch.zeros(mask.shape, device=self.device, dtype=torch.float64)
        dtype = torch.float32
        lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in rows]
        check_positions(self.log_prob_model.plain, lengths)
        with evaluating(self.log_prob_model):
            for chunk in batches_by_length(lengths, batch_size):
                batch = collate([rows[i] for i in chunk], pad_id=self.pad_id, device=self.device)
                logp = self.log_prob_model(batch, adapters=self.adapters).logp
                dtype = logp.dtype
                scored = logp[batch.completion_mask].to(log_probs.dtype)
                log_probs[chunk] = torch.zeros_like(log_probs[chunk]).masked_scatter(
                    mask[chunk], scored
                )
        return log_probs.to(dtype), mask

    def log_prob(
        self, prompts: Sequence[Text], completions: Sequence[Text], *, batch_size: int = 8
    ) -> Tensor:
        """Return ``log π(completion | prompt)``, ``(n,)`` in nats, float64."""
        return sum_log_probs(self.token_log_probs(prompts, completions, batch_size=batch_size)[0])

    def length(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """Return the number of scored tokens of each completion, float64 ``(n,)``."""
        counts = [len(row.completion_ids) for row in self.encode(prompts, completions)]
        return torch.tensor(counts, dtype=torch.float64, device=self.device)

    def sample(
        self,
        prompts: Sequence[Text],
        n: int,
        seed: Seed,
        *,
        max_new_tokens: int = 128,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        batch_size: int = 8,
    ) -> list[list[Ids]]:
        """Draw ``n`` completions of every prompt, as token ids.

        The same for the same seed, device and batch size.

        By default exact draws from the policy: nothing of the model's own generation settings is
        used but its end tokens. A completion that was cut off at ``max_new_tokens`` does not end
        with one of :attr:`end_ids`.
        """
        check_integer(low=1, n=n, max_new_tokens=max_new_tokens, batch_size=batch_size)
        check_integer(low=0, top_k=top_k)
        check_positive(temperature=temperature)
        check_interval(top_p=top_p, low=0.0, high=1.0, closed="right")
        # With a completion of one token, `encode` says what generation is to see before it.
        rows = self.encode(prompts, [[0]] * len(prompts))
        lengths = [len(row.prompt_ids) for row in rows]
        check_new_tokens(self.log_prob_model.plain, lengths, max_new_tokens)
        return sampled_completions(
            self.log_prob_model,
            [row.prompt_ids for row in rows],
            n,
            random_generator(seed),
            ends=self.end_ids,
            pad_id=self.pad_id,
            adapters=self.adapters,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            temperature=float(temperature),
            top_k=top_k,
            top_p=float(top_p),
        )

    def with_masks(self, kind: str, *, seed: Seed | None = 0, dropout: float = 0.0) -> Self:
        """Return the same model, sharing its memory, with masks that weigh tokens.

        For losses that take weights (:func:`prefsim.losses.sparse_po`): the masks read the states
        of the reference, which must have this model's layers, and those that learn are trained
        along. They are saved beside the model.

        Parameters
        ----------
        kind
            ``"common"`` or ``"independent"``
            (:class:`~prefsim.lm.model.token_masks.LearnedMasks`): one weight of each token, or
            one of its log-ratio and another of its KL divergence; ``"activations"``
            (:class:`~prefsim.lm.model.token_masks.ActivationMasks`), which learn nothing; or
            ``"none"``, which takes them off.
        seed, dropout
            Of masks that learn.

        Raises
        ------
        ValueError
            If there is no such kind, or the rate of dropout is out of range.
        """
        check_choice((*MASKS, "none"), kind=kind)
        masks = made_masks(kind, self.plain.config, seed=seed, dropout=dropout)
        if masks is not None:
            weight = self.log_prob_model.head().weight
            masks.to(weight.device, torch.promote_types(weight.dtype, torch.float32)).eval()
        return replace(self, log_prob_model=LogProbModel(self.model, masks))

    def frozen(self) -> Self:
        """Return a copy that shares nothing with this policy and is never trained."""
        log_prob_model = copy.deepcopy(self.log_prob_model)
        log_prob_model.requires_grad_(False)
        return replace(self, log_prob_model=log_prob_model)

    def without_adapters(self) -> Self:
        """Return the same model, sharing its memory, with its adapters switched off in every call.

        Raises
        ------
        ValueError
            If it has none.
        """
        if not is_adapted(self.model):
            raise ValueError(
                "the policy has no adapters to switch off; take frozen() as its reference"
            )
        return replace(self, adapters=False)

    def merged(self) -> Self:
        """Return a copy without adapters that says what this policy says, all of it trainable.

        The adapters become part of the weights (where they are switched off they are left out), so
        that further ones can be trained on top.

        Raises
        ------
        ValueError
            If there are none.
        """
        if not is_adapted(self.model):
            raise ValueError("the policy has no adapters to merge")
        model = copy.deepcopy(self.model)
        plain = model.merge_and_unload() if self.adapters else model.unload()
        plain.requires_grad_(True)
        masks = copy.deepcopy(self.log_prob_model.masks)
        return replace(self, log_prob_model=LogProbModel(plain, masks), adapters=True)

    def save(self, folder: str | Path) -> None:
        """Write the model (or its adapters alone) and the tokenizer in the layout of transformers.

        As safetensors and JSON.
        """
        # Those of a model that lay there before would be asked of this one.
        (Path(folder) / DIGESTS).unlink(missing_ok=True)
        self.model.save_pretrained(folder)
        save_masks(self.log_prob_model.masks, Path(folder))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
