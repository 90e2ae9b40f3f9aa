"""Defences under the names and defaults of federated frameworks, written as the generic ones that they are made of.

Formulas and defaults as read in the frameworks' sources in November 2026. Each function takes its parameters under the
framework's own names; what has no default there has none here.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from auditor.errors import UsageError
from auditor.text import did_you_mean, printable


@dataclass(frozen=True)
class ClientTraining:
    """What a preset needs to know of the audited protocol: clips of one client, its steps, and what travels."""

    clips: int = 1
    steps: int = 1
    one_gradient: bool = True


Parts = tuple[str, ...]


def flower_local_dp(
    training: ClientTraining, *, clipping_norm: float, sensitivity: float, epsilon: float, delta: float
) -> Parts:
    """Flower 1.42, LocalDpMod: clips the update, then adds noise of the classical Gaussian mechanism, at the client."""
    return (_clip(clipping_norm), *_noise(classical_sigma(sensitivity, epsilon, delta)))


def flower_client_fixed(
    training: ClientTraining, *, noise_multiplier: float, clipping_norm: float, num_sampled_clients: float
) -> Parts:
    """Flower 1.42, DifferentialPrivacyClientSideFixedClipping: clients clip, the server adds noise to the average."""
    return (_clip(clipping_norm), *_noise(noise_multiplier * clipping_norm / num_sampled_clients, _SERVER))


def flower_server_fixed(
    training: ClientTraining, *, noise_multiplier: float, clipping_norm: float, num_sampled_clients: float
) -> Parts:
    """Flower 1.42, DifferentialPrivacyServerSideFixedClipping: the server clips bare updates, and adds noise."""
    return (
        f"{_SERVER}{_clip(clipping_norm)}",
        *_noise(noise_multiplier * clipping_norm / num_sampled_clients, _SERVER),
    )


def flower_client_adaptive(
    training: ClientTraining,
    *,
    noise_multiplier: float,
    num_sampled_clients: float,
    initial_clipping_norm: float = 0.1,
    clipped_count_stddev: float = 0.0,
) -> Parts:
    """Flower 1.42, DifferentialPrivacyClientSideAdaptiveClipping, in its first round; 0 is a stddev of a 20th of n."""
    return flower_client_fixed(
        training,
        noise_multiplier=adaptive_multiplier(noise_multiplier, clipped_count_stddev or num_sampled_clients / 20.0),
        clipping_norm=initial_clipping_norm,
        num_sampled_clients=num_sampled_clients,
    )


def flower_server_adaptive(
    training: ClientTraining,
    *,
    noise_multiplier: float,
    num_sampled_clients: float,
    initial_clipping_norm: float = 0.1,
    clipped_count_stddev: float = 0.0,
) -> Parts:
    """Flower 1.42, DifferentialPrivacyServerSideAdaptiveClipping, in its first round; clients send bare updates."""
    return flower_server_fixed(
        training,
        noise_multiplier=adaptive_multiplier(noise_multiplier, clipped_count_stddev or num_sampled_clients / 20.0),
        clipping_norm=initial_clipping_norm,
        num_sampled_clients=num_sampled_clients,
    )


def flower_secagg_plus(
    training: ClientTraining, *, num_clients: int, clipping_range: float = 8.0, quantization_range: int = 2**22
) -> Parts:
    """Flower 1.42, SecAgg+: entries cut at the range and rounded at random to levels; the sum alone is seen."""
    return (f"fixed-point:{clipping_range!r},{quantization_range}", f"secure-aggregation:{num_clients}")


def nvflare_percentile_privacy(training: ClientTraining, *, percentile: float = 10.0, gamma: float = 0.01) -> Parts:
    """NVFlare 2.9, PercentilePrivacy: of the change per local step, entries under the percentile are set to zero.

    The rest is cut at +-gamma: at the defaults 90% are kept. Out of range its numbers switch the filter off.
    """
    if not 0.0 <= percentile < 100.0 or gamma <= 0.0:
        raise ValueError("percentile is 0 to below 100 and gamma above 0; NVFlare sends the bare update else")
    pruned = (f"prune:{percentile / 100.0!r}",) if percentile > 0.0 else ()
    return (*pruned, f"clamp:{gamma * training.steps!r}")


def nvflare_svt_privacy(
    training: ClientTraining,
    *,
    fraction: float = 0.1,
    epsilon: float = 0.1,
    noise_var: float = 0.1,
    gamma: float = 1e-5,
    tau: float = 1e-6,
) -> Parts:
    """NVFlare 2.9, SVTPrivacy with replace=True; see `sparse_vector`."""
    numbers = (fraction, epsilon, noise_var, gamma, tau)
    return (f"sparse-vector:{','.join(map(repr, numbers))},{training.steps}",)


def nvflare_exclude_vars(training: ClientTraining, *, exclude_vars: str) -> Parts:
    """NVFlare 2.9, ExcludeVars with a text: parameters in whose names the regular expression is found are removed."""
    return (f"exclude-regex:{exclude_vars}",)


def nvflare_model_quantizer(training: ClientTraining, *, quantization_type: str = "float16") -> Parts:
    """NVFlare 2.9, ModelQuantizer: half precision, or 8 and 4 bits an entry by the codes of bitsandbytes."""
    forms = {"float16": "float16", **{name: f"blockwise:{code}" for name, code in _BITSANDBYTES.items()}}
    if quantization_type not in forms:
        raise ValueError(f"quantization_type is {', '.join(forms)}")
    return (forms[quantization_type],)


def nvflare_gaussian_privacy(training: ClientTraining, *, sigma0: float = 0.1, max_percentile: float = 95.0) -> Parts:
    """NVFlare research, GaussianPrivacy: noise of sigma0 times a percentile of the magnitudes that are not zero."""
    return (f"relative-gaussian:{sigma0!r},{max_percentile!r}",)


def opacus_dp_sgd(training: ClientTraining, *, noise_multiplier: float, max_grad_norm: float) -> Parts:
    """Opacus 1.6, DP-SGD: every clip's gradient is clipped, noise z C on their sum, divided by the batch."""
    if not training.one_gradient:
        raise ValueError("DP-SGD over several local steps is not modelled; use --algorithm fedsgd")
    return (_clip(max_grad_norm), *_per_clip(training), *_noise(noise_multiplier * max_grad_norm / training.clips))


def fedbiomed_central(training: ClientTraining, *, sigma: float, clip: float) -> Parts:
    """Fed-BioMed, central: every clip's gradient is clipped without noise, then sigma * clip is added once."""
    if not training.one_gradient:
        raise ValueError("clipping over several local steps is not modelled; use --algorithm fedsgd")
    return (_clip(clip), *_per_clip(training), *_noise(sigma * clip))


def fedml_local_dp(
    training: ClientTraining,
    *,
    epsilon: float,
    delta: float = 1e-5,
    sensitivity: float = 1.0,
    mechanism_type: str = "laplace",
) -> Parts:
    """FedML 0.9.6, LocalDP: Laplace or Gaussian noise without any clipping; its Gaussian refuses epsilon above 1.

    Its Laplace noise has a scale of S / (epsilon - ln(1 - delta)).
    """
    if mechanism_type == "laplace":
        return (f"laplace:{sensitivity / (epsilon - math.log(1.0 - delta))!r}",)
    if mechanism_type != "gaussian" or epsilon > 1.0:
        raise ValueError("mechanism_type is laplace, or gaussian with an epsilon of 1 at most")
    return _noise(classical_sigma(sensitivity, epsilon, delta))


def fedml_topk(training: ClientTraining, *, compression_ratio: float = 0.05) -> Parts:
    """FedML, top-k compression of every parameter."""
    return (f"top-k:{compression_ratio!r}",)


def fedml_qsgd(training: ClientTraining, *, quantize_level: int = 32) -> Parts:
    """FedML 0.9.6, QSGD: stochastic rounding of every parameter to 2^level - 1 levels of its norm, biased.

    At a level of 32, its default, it sends what it was given.
    """
    if not 1 <= quantize_level <= _NOT_QUANTISED:
        raise ValueError(f"quantize_level is 1 to {_NOT_QUANTISED}")
    return ("unchanged",) if quantize_level == _NOT_QUANTISED else (f"qsgd:{2**quantize_level - 1},biased",)


def tff_gaussian_adaptive(
    training: ClientTraining,
    *,
    noise_multiplier: float,
    clients_per_round: float,
    initial_l2_norm_clip: float = 0.1,
    clipped_count_stddev: float = 0.0,
) -> Parts:
    """TFF, DifferentiallyPrivateFactory.gaussian_adaptive in its first round; 0 is a stddev of a 20th of n."""
    return flower_server_adaptive(
        training,
        noise_multiplier=noise_multiplier,
        num_sampled_clients=clients_per_round,
        initial_clipping_norm=initial_l2_norm_clip,
        clipped_count_stddev=clipped_count_stddev,
    )


def openfl_stc(training: ClientTraining, *, p_sparsity: float = 0.1) -> Parts:
    """OpenFL, STCPipeline: signs of the largest entries at one magnitude a tensor; its n_clusters is not used there."""
    return (f"sparse-ternary:{p_sparsity!r}",)


def openfl_kc(training: ClientTraining, *, n_clusters: int = 6) -> Parts:
    """OpenFL, KCPipeline: k-means over the entries of every tensor; its p_sparsity is not used there."""
    return (f"kmeans:{n_clusters}",)


def openfl_eden(training: ClientTraining, *, n_bits: int = 8, dim_threshold: int = 100) -> Parts:
    """OpenFL, EdenPipeline: tensors of more than dim_threshold entries are rotated and rounded."""
    return (f"eden:{n_bits},{dim_threshold}",)


_BITSANDBYTES = {"blockwise8": "dynamic8", "float4": "float4", "normfloat4": "normal4"}
_SERVER = "server:"
_NOT_QUANTISED = 32
PRESETS: Mapping[str, Callable[..., Parts]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        flower_local_dp,
        flower_client_fixed,
        flower_server_fixed,
        flower_client_adaptive,
        flower_server_adaptive,
        flower_secagg_plus,
        nvflare_percentile_privacy,
        nvflare_svt_privacy,
        nvflare_exclude_vars,
        nvflare_model_quantizer,
        nvflare_gaussian_privacy,
        opacus_dp_sgd,
        fedbiomed_central,
        fedml_local_dp,
        fedml_topk,
        fedml_qsgd,
        tff_gaussian_adaptive,
        openfl_stc,
        openfl_kc,
        openfl_eden,
    )
}


def classical_sigma(sensitivity: float, epsilon: float, delta: float) -> float:
    """Return S sqrt(2 ln(1.25 / delta)) / epsilon (Dwork & Roth 2014, theorem A.1; proven for epsilon < 1)."""
    return sensitivity * math.sqrt(2.0 * math.log(1.25 / delta)) / epsilon


def adaptive_multiplier(multiplier: float, count_deviation: float) -> float:
    """Return (z^-2 - (2 sigma_b)^-2)^-1/2, what is left for the update (Andrew et al. 2021, 1905.03871, theorem 1)."""
    left = multiplier**-2 - (2.0 * count_deviation) ** -2 if multiplier > 0.0 else math.inf
    if left <= 0.0:
        raise ValueError("noise_multiplier has to be below two times clipped_count_stddev")
    return float(left**-0.5)


def expanded(specs: tuple[str, ...], training: ClientTraining) -> tuple[str, ...]:
    """Return specs with every framework's defence replaced by what it is made of.

    Raises
    ------
    UsageError
        A parameter is missing, unknown or out of range.
    """
    return tuple(part for spec in specs for part in _parts(spec, training))


def _parts(spec: str, training: ClientTraining) -> Parts:
    name, _, given = spec.partition(":")
    if name not in PRESETS:
        return (spec,)
    preset = PRESETS[name]
    try:
        return preset(training, **_arguments(preset, given))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        why = error if isinstance(error, ValueError) else "one of its numbers is 0, or too large"
        raise UsageError(f"--defence {printable(spec, 60)}: {why}", f"use {form(name)}") from error


def _arguments(preset: Callable[..., Parts], given: str) -> dict[str, Any]:
    """Return the parameters by name, as their types want them.

    Raises
    ------
    ValueError
        One is unknown, missing, or no number.
    """
    wanted = {p.name: p for p in inspect.signature(preset).parameters.values() if p.kind is p.KEYWORD_ONLY}
    # One text may hold anything: regular expressions have commas of their own.
    pairs = [part for part in ([given] if list(wanted) == ["exclude_vars"] else given.split(",")) if part]
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name not in wanted:
            raise ValueError(f"it has no parameter {printable(name, 40)}{did_you_mean(name, wanted)}")
        if not equals:
            raise ValueError(f"{name} has no value")
        if name in arguments:
            raise ValueError(f"{name} is given twice")
        arguments[name] = _read(name, value, wanted[name].annotation)
    missing = [name for name, p in wanted.items() if p.default is p.empty and name not in arguments]
    if missing:
        raise ValueError(f"{', '.join(missing)} has no default")
    return arguments


def _read(name: str, value: str, kind: type) -> Any:
    """Return a parameter as its type wants it.

    Raises
    ------
    ValueError
        It is no finite number, or no whole one where counts are wanted.
    """
    if kind is str:
        return value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (kind is int and not number.is_integer()):
        raise ValueError(f"{name} {printable(value, 40)} is no {'whole number' if kind is int else 'number'}")
    return kind(number)


def form(name: str) -> str:
    """Return how a preset is written, with its defaults."""
    wanted = [p for p in inspect.signature(PRESETS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    told = (p.name if p.default is p.empty else f"{p.name}={_short(p.default)}" for p in wanted)
    return f"{name}:{','.join(told)}"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _clip(norm: float) -> str:
    return f"clip:{norm!r}"


def _noise(sigma: float, at: str = "") -> Parts:
    return (f"{at}gaussian:{sigma!r}",) if sigma != 0.0 else ()


def _per_clip(training: ClientTraining) -> Parts:
    return (f"per-clip:{training.clips}",) if training.clips > 1 else ()
