"""Models, adapters and tokenizers from folders and from the hub.

What is not there is told at once: a misspelt folder is not asked of the hub for a minute.
"""

from __future__ import annotations

import importlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from prefsim.backend import Seed
from prefsim.checks.quoting import shown
from prefsim.lm.model.digests import DIGESTS, check_digests
from prefsim.lm.model.log_prob_model import is_adapted
from prefsim.lm.model.seeding import seeded

__all__ = [
    "adapter_folder",
    "base_of",
    "check_place",
    "library",
    "load_classifier",
    "load_model",
    "load_tokenizer",
    "one_process_loads",
    "with_adapter",
    "without_memory",
]

ADAPTER_CONFIG = "adapter_config.json"
# What a folder with a tokenizer of any kind holds at least one of.
_OF_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
# Options of transformers that say where something lies, and so are the tokenizer's too.
_OF_PLACES = ("revision", "trust_remote_code", "token", "cache_dir", "local_files_only")
_SECONDS_TO_ANSWER = 10


def library(name: str) -> ModuleType:
    """Return a package of the extra ``lm``, or say how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModuleNotFoundError(
            f"language models need {name}, which `pip install 'prefsim[lm]'` brings", name=name
        ) from error


def check_place(name: str | Path, what: str = "model", **options: Any) -> None:
    """Raise unless a name may be that of a folder or of something on the hub, asking neither twice.

    Parameters
    ----------
    name
        Folder or hub id.
    what
        What it is the name of, for the message.
    **options
        Of ``from_pretrained``, of which ``cache_dir``, ``revision`` and ``local_files_only``
        matter.

    Raises
    ------
    ValueError
        If it is no folder, and can be no hub id, or the hub cannot be reached and keeps no copy
        here.
    """
    if Path(name).is_dir():
        return
    if not _may_be_hub_id(name):
        raise _nowhere(name, what)
    hub: Any = library("huggingface_hub")
    kept = hub.try_to_load_from_cache
    places = {key: options[key] for key in ("cache_dir", "revision") if options.get(key)}
    files = ("config.json", ADAPTER_CONFIG, *_OF_TOKENIZERS)
    if any(isinstance(kept(str(name), file, **places), str) for file in files):
        return
    # Told to stay off the network, transformers answers at once by itself.
    if hub.constants.HF_HUB_OFFLINE or options.get("local_files_only"):
        return
    _check_reachable(name, what, hub)


def _may_be_hub_id(name: str | Path) -> bool:
    """Return whether a name that is no folder may be a hub id, `name` or `owner/name`."""
    if isinstance(name, Path) or Path(name).exists():
        return False
    owner, _, rest = name.rpartition("/")
    # `models/llama` beside a folder `models` is a path; nobody's hub id is a place here.
    if owner and (not rest or Path(owner).exists()):
        return False
    try:
        # A package loads its parts when they are imported, not when they are named.
        importlib.import_module(".utils", library("huggingface_hub").__name__).validate_repo_id(
            name
        )
    except ValueError:
        return False
    return True


def _check_reachable(name: str | Path, what: str, hub: Any) -> None:
    """Ask the hub once, where transformers would ask for file after file, six times each."""
    url = hub.hf_hub_url(str(name), "config.json")
    try:
        hub.utils.get_session().head(url, timeout=_SECONDS_TO_ANSWER)
    except Exception as error:  # each version of the hub's client has errors of its own
        raise _nowhere(name, what, error) from error


def _nowhere(name: str | Path, what: str, error: Exception | None = None) -> ValueError:
    described = {"model": "a causal language model", "adapter": "adapters"}.get(what, f"a {what}")
    reason = "" if error is None else f" ({error})"
    return ValueError(
        f"{what} {str(name)!r} is neither a folder with {described} nor a reachable hub id{reason}"
    )


def one_process_loads() -> bool:
    """Return whether of the processes that were launched together only the first reads weights.

    That is so under FSDP with ``fsdp_cpu_ram_efficient_loading``, where the others get their parts
    from it when training begins.
    """
    asked = ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING")
    return all(os.environ.get(name, "false").lower() == "true" for name in asked)


def _reads_weights() -> bool:
    return not one_process_loads() or int(os.environ.get("RANK", "0")) == 0


def without_memory(config: Any, dtype: str, auto: str, **options: Any) -> Any:
    """Return a model of one of transformers' automatic classes as sizes alone (device ``meta``)."""
    torch: Any = library("torch")
    stored = getattr(config, "dtype", None) or torch.float32
    with torch.device("meta"):
        return getattr(library("transformers"), auto).from_config(
            config, dtype=stored if dtype == "auto" else getattr(torch, dtype), **options
        )


def adapter_folder(path: str | Path, **options: Any) -> bool:
    """Return whether a folder or hub id holds adapters instead of a model."""
    if Path(path).is_dir():
        return (Path(path) / ADAPTER_CONFIG).is_file()
    find = library("transformers.utils").find_adapter_config_file
    return find(str(path), **_of(options, "revision", "token", "cache_dir")) is not None


def base_of(path: str | Path, **options: Any) -> tuple[str, Any]:
    """Return the name of the model that adapters are for, and their configuration.

    Raises
    ------
    ValueError
        If they do not say it, or not legibly.
    """
    try:
        config = library("peft").PeftConfig.from_pretrained(path, **_of(options, *_OF_PLACES))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{ADAPTER_CONFIG} of {str(path)!r} cannot be read ({error})") from error
    if not config.base_model_name_or_path:
        raise ValueError(
            f"the adapters in {str(path)!r} do not say which model they are for: load that model"
            " with adapter=..."
        )
    return str(config.base_model_name_or_path), config


def load_model(path: str | Path, dtype: str, **options: Any) -> Any:
    """Return a model in memory, with the adapters that lie there on the model that they are for.

    Raises
    ------
    ValueError
        If there is none.
    """
    check_place(path, **options)
    if not options.get("gguf_file") and adapter_folder(path, **options):
        base, _ = base_of(path, **options)
        try:
            model = load_model(base, dtype, **_of_the_base(options))
        except ValueError as error:
            raise ValueError(f"adapters {str(path)!r}: their {error}") from error
        return with_adapter(model, Path(path) if Path(path).is_dir() else path, None, **options)
    return _whole_model(path, dtype, "AutoModelForCausalLM", "model", **options)


def load_classifier(path: str | Path, dtype: str, **options: Any) -> Any:
    """Return a sequence classifier in memory, such as a reward model.

    Raises
    ------
    ValueError
        If there is none.
    """
    check_place(path, "reward model", **options)
    return _whole_model(
        path, dtype, "AutoModelForSequenceClassification", "reward model", **options
    )


def _whole_model(path: str | Path, dtype: str, auto: str, what: str, **options: Any) -> Any:
    """Return a model of one of transformers' automatic classes, every weight as it is stored.

    Without memory where another process reads the weights.
    """
    if not _reads_weights():
        places = _of(options, *_OF_PLACES, "gguf_file")
        config = library("transformers").AutoConfig.from_pretrained(path, **places)
        return without_memory(config, dtype, auto, **_of(options, "attn_implementation"))
    _check_files(Path(path))
    # What is not there is drawn at random, and what has another shape may be: both are told here.
    asked = {"ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        model, report = getattr(library("transformers"), auto).from_pretrained(
            path, dtype=dtype, **(options | asked)
        )
    except OSError as error:
        raise _nowhere(path, what) from error
    except library("safetensors").SafetensorError as error:
        raise ValueError(f"the weights of model {str(path)!r} cannot be read ({error})") from error
    _check_whole(path, report)
    return _as_plain_weights(model) if options.get("gguf_file") else model


def _check_files(folder: Path) -> None:
    """Raise where files of a model were changed since a training wrote them, or are no JSON.

    Transformers goes on without a ``generation_config.json`` that it cannot read, whose tokens end
    a completion.
    """
    if (folder / DIGESTS).is_file():
        try:
            check_digests(folder, further=True)
        except ValueError as error:
            raise ValueError(
                f"model {str(folder)!r}: {error}; delete {DIGESTS} if the change is wanted"
            ) from error
    file = folder / "generation_config.json"
    if file.is_file():
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{file}: expected JSON ({error})") from error


def _check_whole(path: str | Path, report: Mapping[str, Any]) -> None:
    """Raise unless every parameter of a model was among the weights that were read, as it is."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"the weights of model {str(path)!r} are not all there: {shown(missing[0])} is missing"
            f" (of {len(missing)}), and would be random"
        )
    if report["mismatched_keys"]:
        name, stored, wanted = sorted(report["mismatched_keys"])[0]
        raise ValueError(
            f"the weights of model {str(path)!r} do not fit its configuration: {shown(name)} must"
            f" have shape {tuple(wanted)}, got {tuple(stored)}"
        )


def _as_plain_weights(model: Any) -> Any:
    """Return a model from a GGUF file as the floating-point model that it now is.

    Transformers has unpacked its weights, but goes on calling it quantised and does not save it.
    """
    for holder, name in (
        (model.config, "quantization_config"),
        (model, "hf_quantizer"),
        (model, "is_quantized"),
        (model, "quantization_method"),
    ):
        vars(holder).pop(name, None)
    return model


def load_tokenizer(path: str | Path, **options: Any) -> Any:
    """Return the tokenizer of a model, or None where there is none.

    Adapters that lie there without one have that of the model that they are for.

    Raises
    ------
    ValueError
        If there is one that cannot be loaded.
    """
    load = library("transformers").AutoTokenizer.from_pretrained
    try:
        return load(path, **_of(options, *_OF_PLACES, "gguf_file"))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        if not options.get("gguf_file") and not _holds_tokenizer(path, options):
            return _tokenizer_of_base(path, options)
        raise ValueError(f"the tokenizer of {str(path)!r} cannot be loaded ({error})") from error


def _tokenizer_of_base(path: str | Path, options: dict[str, Any]) -> Any:
    """Return the tokenizer of the model that adapters are for; None for one of bare token ids."""
    if not adapter_folder(path, **options):
        return None
    base, _ = base_of(path, **options)
    return load_tokenizer(base, **_of_the_base(options))


def _of_the_base(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that hold for the model of adapters, whose revision is another."""
    return {key: value for key, value in options.items() if key != "revision"}


def _holds_tokenizer(path: str | Path, options: dict[str, Any]) -> bool:
    if Path(path).is_dir():
        return any((Path(path) / name).exists() for name in _OF_TOKENIZERS)
    find = library("transformers.utils").cached_file
    missing_is_none = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    places = _of(options, "revision", "token", "cache_dir")
    return any(find(path, name, **places, **missing_is_none) for name in _OF_TOKENIZERS)


def with_adapter(model: Any, adapter: Any, seed: Seed | None, **options: Any) -> Any:
    """Return a model with adapters: fresh ones of a peft configuration, or trained ones.

    Parameters
    ----------
    model
        Without adapters of its own: a second set would take the place of the first.
    adapter
        Configuration, folder or hub id.
    seed
        Of the weights of fresh ones, the same on every process; None goes on with torch's own
        generator.
    **options
        Where trained ones lie, such as ``revision``.

    Raises
    ------
    ValueError
        If the model carries some already, or there are none of this name.
    """
    peft: Any = library("peft")
    if is_adapted(model) or getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "the model carries adapters already, which others would take the place of: train those"
            " that are there (adapter=None), or make them part of the weights first"
            " (CausalLM.merged)"
        )
    if isinstance(adapter, peft.PeftConfig):
        if seed is None:
            return peft.get_peft_model(model, adapter)
        with seeded(seed):
            return peft.get_peft_model(model, adapter)
    if not isinstance(adapter, str | os.PathLike):
        raise TypeError(
            "adapter must be a peft configuration, a folder or a hub id, got"
            f" {type(adapter).__name__}"
        )
    name = str(adapter)
    check_place(adapter if isinstance(adapter, Path) else name, "adapter", **options)
    places = _of(options, "revision", "token", "cache_dir", "local_files_only")
    if not _reads_weights():
        _, config = base_of(name, **places)
        config.inference_mode = False  # stored adapters say that they are at rest
        return peft.get_peft_model(model, config)
    _check_files(Path(name))
    # Weights of another shape are a RuntimeError of torch; those that are missing a warning.
    faults = (OSError, ValueError, RuntimeError, UserWarning)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return peft.PeftModel.from_pretrained(model, name, is_trainable=True, **places)
    except (*faults, library("safetensors").SafetensorError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"adapters {name!r} cannot be loaded ({why})") from error


def _of(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
