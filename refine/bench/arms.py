"""Arms: named overlays of one configuration, and the metrics that each of them steered by.

A suite is a YAML file beside this module, or the user's own:

    about      one line
    sets       still-life sets (prompts, damaged, clean); a prompt file replaces them
    draws      what each arm may spend on an image, in drawings of the generator (budget.evaluations wins where it is set)
    baseline   the arm that the others are compared with, pair by pair
    ours       the arm that the gallery shows
    arms       name: {about: text, presets: [names], config: tree, sets: [names]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from refine import config, plugins, presets, trees
from refine.errors import ConfigError, unknown
from refine.gate import Gate
from refine.policy import Policy
from refine.trees import Tree

KEYS = {"about": str, "sets": list, "draws": int, "baseline": str, "ours": str, "arms": dict}
ARM_KEYS = {"about": str, "presets": list, "config": dict, "sets": list}
KNOWS_TRUTH = frozenset({"oracle", "oracle-mask", "likeness"})  # plugins that are told the clean picture


@dataclass(frozen=True, slots=True)
class Arm:
    """A configuration under a name; ``sets`` where it runs (empty: on all)."""

    name: str
    about: str
    tree: Tree
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """What is compared with what, on what, at which price."""

    name: str
    about: str
    sets: tuple[str, ...]
    draws: int
    baseline: str
    ours: str
    arms: Mapping[str, Tree]


def suites() -> list[str]:
    """The suites that ship with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in files("refine.bench").iterdir() if entry.name.endswith(".yaml"))


def read(name: str) -> Suite:
    """A suite by name, or from a .yaml file. Raises ConfigError with all faults."""
    tree = trees.parse(_text(name), f"Suite {name}")
    faults = [unknown("key", key, KEYS) for key in tree if key not in KEYS]
    wrong = [key for key, kind in KEYS.items() if not isinstance(tree.get(key), kind)]
    faults += [f"{key} is {tree.get(key)!r}; it must be a {KEYS[key].__name__}." for key in wrong]
    arms: dict[str, Any] = tree["arms"] if isinstance(tree.get("arms"), dict) else {}
    for label, arm in arms.items():
        faults += _arm_faults(label, arm)
    faults += [unknown(f"{role}: arm", str(tree.get(role)), arms) for role in ("baseline", "ours") if tree.get(role) not in arms]
    if isinstance(tree.get("draws"), int) and tree["draws"] < 1:
        faults.append(f"draws is {tree['draws']}; it must be 1 or more.")
    if faults:
        raise ConfigError([f"suite {name}: {fault}" for fault in faults])
    return Suite(Path(name).stem, tree["about"], tuple(tree["sets"]), tree["draws"], tree["baseline"], tree["ours"], arms)


def _text(name: str) -> str:
    if not name.endswith((".yaml", ".yml")):
        if name not in suites():
            raise ConfigError(f"{unknown('suite', name, suites())} Or give the path of a .yaml file.")
        return (files("refine.bench") / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the suite {name}: {error}") from error


def _arm_faults(label: str, arm: Any) -> list[str]:
    if not isinstance(arm, dict):
        return [f"arm {label} is {arm!r}; it must be a mapping of {', '.join(ARM_KEYS)}."]
    faults = [] if re.fullmatch(r"[\w-]+", label) else [f"arm {label!r}: a name may hold letters, digits, '-' and '_'."]
    faults += [f"arm {label}: {unknown('key', key, ARM_KEYS)}" for key in arm if key not in ARM_KEYS]
    return faults + [
        f"arm {label}: {key} is {arm[key]!r}; it must be a {kind.__name__}."
        for key, kind in ARM_KEYS.items()
        if key in arm and not isinstance(arm[key], kind)
    ]


def choose(suite: Suite, names: Sequence[str]) -> Suite:
    """The suite with these arms alone (none named: all of them). The baseline always stays. Raises ConfigError."""
    if faults := [unknown("arm", name, suite.arms) for name in names if name not in suite.arms]:
        raise ConfigError(faults)
    kept = {name: arm for name, arm in suite.arms.items() if not names or name in names or name == suite.baseline}
    if len(kept) < 2:
        raise ConfigError(f"Only the baseline {suite.baseline!r} is left; choose at least one other arm of {', '.join(suite.arms)}.")
    ours = suite.ours if suite.ours in kept else next(name for name in kept if name != suite.baseline)
    return Suite(suite.name, suite.about, suite.sets, suite.draws, suite.baseline, ours, kept)


def resolve(
    suite: Suite, names: Sequence[str], overrides: Sequence[str], held_out: Sequence[str], sets: Sequence[str]
) -> tuple[Tree, list[Arm]]:
    """The base configuration, and each arm that has a set to run on: presets, overrides, then the arm's own. Every fault at once.

    ``held_out``: rewards of the base that no arm may use; they only measure.
    """
    base = forgetful(config.load(names, overrides).tree)
    faults = [unknown("reward to hold out", name, base["rewards"]) for name in held_out if name not in base["rewards"]]
    mute: Tree = {"rewards": dict.fromkeys(held_out)}
    made = []
    for label, arm in suite.arms.items():
        where = tuple(arm.get("sets", ()))
        faults += [f"arm {label}: {unknown('set', name, suite.sets)}" for name in where if name not in suite.sets]
        if where and not set(where) & set(sets):
            continue
        try:
            layers = [base, *(presets.read(name) for name in arm.get("presets", ())), arm.get("config", {}), mute]
            made.append(Arm(label, arm.get("about", ""), forgetful(config.check(trees.merge(layers)).tree), where))
        except ConfigError as error:
            faults += [f"arm {label}: {fault}" for fault in error.faults]
    if faults:
        raise ConfigError(faults)
    return base, made


def forgetful(tree: Tree) -> Tree:
    """The tree with a controller that remembers no picture: what one arm has looked at would cost the next one nothing."""
    return tree | ({"controller": {**tree["controller"], "remember": 0}} if "remember" in tree["controller"] else {})


def steering(tree: Tree, base: Tree) -> frozenset[str]:
    """The sources of metrics that decide what this arm keeps: ``controller``, ``reward:NAME`` (of the base), ``truth``.

    Derived from the configuration alone, and on the safe side. Nothing is decided without rounds. Rewards decide under the rules
    ``better``, ``reward`` and ``cleanest``, and among several first drawings; under ``off`` they break ties between candidates. The
    controller chooses what is repaired, so it counts under every rule.
    """
    if tree["budget"]["rounds"] == 0:
        return frozenset()
    policy, gate = policy_of(tree), Gate(**config.arguments(Gate, tree["gate"]))
    rule = policy.gated(gate).rule
    tries = {"inpaint": len(policy.strengths) * policy.seeds, "redraw": policy.redraws}
    several = max(count for route, count in tries.items() if policy.route in ("auto", route)) > 1
    decide = rule in ("better", "reward", "cleanest") or policy.draws > 1 or (rule == "off" and several)
    rewards = {f"reward:{name}" for name, node in base["rewards"].items() if decide and node in tree["rewards"].values()}
    used = {node["use"] for node in (tree["controller"], tree["policy"], *tree["rewards"].values())}
    controller = {"controller"} if tree["controller"] == base["controller"] else set()
    return frozenset(rewards | controller | ({"truth"} if used & KNOWS_TRUTH else set()))


def policy_of(tree: Tree) -> Policy:
    """The policy that a checked configuration names."""
    make = plugins.find("policy", tree["policy"]["use"])
    made: Policy = make(**config.arguments(make, tree["policy"]))
    return made


def refuse_self_praise(arms: Sequence[Arm], base: Tree, sources: frozenset[str], where: str) -> None:
    """Raises ConfigError where every metric of a table steered one of its arms: such a table proves nothing."""
    blamed = [arm.name for arm in arms if steering(arm.tree, base) >= sources]
    if not blamed:
        return
    raise ConfigError(
        f"The table of {where} would show only what steered the loop: {', '.join(sorted(sources))} steered {', '.join(blamed)}. A number "
        "that was selected on proves nothing. Hold a reward out of the loop (--held-out NAME), or bench on still life, which has a judge."
    )
