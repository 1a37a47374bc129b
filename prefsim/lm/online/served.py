"""Completions drawn by a server: any engine behind the completions interface of OpenAI."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefsim.backend import Seed, random_generator
from prefsim.checks import check_integer, check_interval, check_positive
from prefsim.lm.model.tokens import Ids

if TYPE_CHECKING:
    import httpx2

__all__ = ["ServedModel"]

# What a server says where it may work a moment later.
_BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class ServedModel:
    """A model behind the path ``/completions`` of a server, such as that of vLLM.

    Its :meth:`sample` stands in for that of a language model where completions are drawn:
    ``draw_scored(..., sample=ServedModel(url, name, tokenizer).sample)``.

    Attributes
    ----------
    url
        Up to ``/completions``, such as ``"http://localhost:8000/v1"``.
    model
        The name under which it is served.
    tokenizer
        Of the model: it ends completions, and reads text where a server returns no token ids.
    api_key
        Sent as a bearer token.
    timeout
        Seconds for an answer, > 0.
    retries
        How often a request is repeated that found the server busy or out of reach, >= 0; each time
        after twice as long, at first half a second.
    workers
        Requests at once, >= 1: a server batches what it gets together.

    Notes
    -----
    Log-probabilities are never the server's: rounds compute them with the policy that is trained.
    Losses that read those of the sampler (``ppo``, ``grpo``) are on policy only where the server
    holds the same weights.
    """

    url: str
    model: str
    tokenizer: Any = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 600.0
    retries: int = 3
    workers: int = 8

    def __post_init__(self) -> None:
        check_positive(timeout=self.timeout)
        check_integer(low=0, retries=self.retries)
        check_integer(low=1, workers=self.workers)

    @property
    def place(self) -> str:
        """Where requests go."""
        return f"{self.url.rstrip('/')}/completions"

    def sample(
        self,
        prompts: Sequence[Ids],
        n: int,
        seed: Seed,
        *,
        max_new_tokens: int = 128,
        temperature: float = 1.0,
        top_p: float = 1.0,
        batch_size: int | None = None,
    ) -> list[list[Ids]]:
        """Draw ``n`` completions of every prompt, as token ids.

        Parameters
        ----------
        prompts
            Token ids.
        n
            Completions of each, >= 1.
        seed
            Each request gets one of its own; whether a server's draws repeat is its affair.
        max_new_tokens
            Longest completion. One that was cut off does not end with the end token.
        temperature, top_p
            > 0, and in (0, 1]; by default exact draws.
        batch_size
            Of no effect: the server makes its own batches.

        Raises
        ------
        ConnectionError
            If the server cannot be reached, or stays busy.
        ValueError
            If an option is out of range, the server refuses, or its answer cannot be read.
        """
        import httpx2

        check_integer(low=1, n=n, max_new_tokens=max_new_tokens)
        check_positive(temperature=temperature)
        check_interval(top_p=top_p, low=0.0, high=1.0, closed="right")
        seeds = random_generator(seed).integers(2**31, size=len(prompts))
        asked = [
            {
                "model": self.model,
                "prompt": [int(token) for token in prompt],
                "n": n,
                "max_tokens": max_new_tokens,
                "temperature": float(temperature),
                "top_p": float(top_p),
                "seed": int(own),
                "return_token_ids": True,
            }
            for prompt, own in zip(prompts, seeds, strict=True)
        ]
        headers = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        with (
            httpx2.Client(headers=headers, timeout=self.timeout) as client,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            return list(pool.map(lambda request: self._completions(client, request), asked))

    def _completions(self, client: httpx2.Client, request: Mapping[str, Any]) -> list[Ids]:
        answer = self._answer(client, request)
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice.get("index", 0))
            found = [self._ids(choice) for choice in choices]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.place} answered what is no list of choices: {str(answer)[:200]}"
            ) from error
        if len(found) != request["n"]:
            raise ValueError(
                f"{self.place} was asked for {request['n']} completions and gave {len(found)}"
            )
        return found

    def _ids(self, choice: Mapping[str, Any]) -> Ids:
        """Return the token ids of a completion, with the end token where it ended by itself."""
        ids = choice.get("token_ids")
        if ids is None:
            ids = self.tokenizer(choice["text"], add_special_tokens=False)["input_ids"]
        ids, end = [int(token) for token in ids], self.tokenizer.eos_token_id
        if choice["finish_reason"] == "stop" and ids[-1:] != [end]:
            ids.append(int(end))
        if not ids:
            raise ValueError(f"{self.place} gave a completion without a token")
        return ids

    def _answer(self, client: httpx2.Client, request: Mapping[str, Any]) -> Any:
        import httpx2

        place = self.place
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(0.25 * 2**attempt)
            try:
                response = client.post(place, json=dict(request))
            except httpx2.TransportError as error:
                trouble = f"{place} cannot be reached ({error})"
                continue
            if response.status_code in _BUSY:
                trouble = f"{place} answered {response.status_code}: {response.text[:200]}"
                continue
            if response.status_code != 200:
                raise ValueError(f"{place} answered {response.status_code}: {response.text[:200]}")
            try:
                return response.json()
            except ValueError as error:
                raise ValueError(f"{place} answered no JSON: {response.text[:200]}") from error
        raise ConnectionError(f"{trouble}, {self.retries + 1} times")
