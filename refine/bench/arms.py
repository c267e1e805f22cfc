"""Arms: named overlays of one configuration, and the metrics that each of them steered by.

A suite is a YAML file beside this module, or the user's own:

    about      one line
    sets       still-life sets (prompts, damaged, clean); a prompt file replaces them
    draws      what each arm may spend on an image, in drawings of the generator (budget.evaluations wins where it is set)
    baseline   the arm that the others are compared with, pair by pair, on every set
    ours       the arm that the gallery shows, where it runs
    arms       name: {about: text, presets: [names], config: tree, sets: [names]}

What all arms share (budget.evaluations, budget.seconds, batch) comes from the base configuration. An arm whose policy has another name
than the base's and takes the same settings keeps what the base says of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from refine import config, plugins, presets, trees
from refine.bench import samples
from refine.errors import ConfigError, unknown
from refine.gate import Gate
from refine.policy import Policy
from refine.trees import Tree

KINDS = {str: "text", list: "a list", int: "a whole number", dict: "a mapping"}
KEYS = {"about": str, "sets": list, "draws": int, "baseline": str, "ours": str, "arms": dict}
ARM_KEYS = {"about": str, "presets": list, "config": dict, "sets": list}
TRUTHFUL = ("oracle", "oracle-mask", "likeness")  # plugins that are told the clean picture


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
    tree: Tree = {**dict.fromkeys(KEYS), **trees.parse(_text(name), f"Suite {name}")}
    if faults := [*_kind_faults("", tree, KEYS), *_suite_faults(tree)]:
        raise ConfigError([f"suite {name}: {fault}" for fault in faults])
    sets = tuple(dict.fromkeys(tree["sets"]))
    return Suite(Path(name).stem, tree["about"], sets, tree["draws"], tree["baseline"], tree["ours"], tree["arms"])


def _suite_faults(tree: Tree) -> list[str]:
    """What is wrong with the values that are of the right kind."""
    fit = {key: tree[key] for key, kind in KEYS.items() if type(tree[key]) is kind}
    arms: dict[Any, Any] = fit.get("arms", {})
    faults = [fault for label, arm in arms.items() for fault in _arm_faults(label, arm)]
    roles = {role: fit[role] for role in ("baseline", "ours") if role in fit}
    faults += [unknown(f"{role}: arm", name, map(str, arms)) for role, name in roles.items() if name not in arms]
    if "ours" in roles and roles["ours"] == roles.get("baseline"):
        faults.append(f"ours and the baseline are both {roles['ours']}; ours is the arm to show against the baseline.")
    first = arms.get(roles.get("baseline"))
    if isinstance(first, dict) and "sets" in first:
        faults.append(f"the baseline {roles['baseline']} has sets; the others are compared with it on every set. Leave its sets out.")
    if fit.get("draws", 1) < 1:
        faults.append(f"draws is {fit['draws']}; it must be 1 or more.")
    if fit.get("sets") == []:
        faults.append(f"sets is empty; name at least one of {', '.join(samples.SETS)}.")
    sets = [name for name in fit.get("sets", ()) if isinstance(name, str)]
    return faults + [unknown("set", name, samples.SETS) for name in sets if name not in samples.SETS]


def _text(name: str) -> str:
    if not name.endswith((".yaml", ".yml")):
        if name not in suites():
            raise ConfigError(f"{unknown('suite', name, suites())} Or give the path of a .yaml file.")
        return (files("refine.bench") / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the suite {name}: {error}") from error


def _arm_faults(label: Any, arm: Any) -> list[str]:
    if not isinstance(label, str):
        return [f"an arm is called {label}, which YAML does not read as text: put the name in quotes."]
    if not isinstance(arm, dict):
        return [f"arm {label} is {arm!r}; it must be a mapping of {', '.join(ARM_KEYS)}."]
    faults = [] if re.fullmatch(r"[\w-]+", label) else [f"arm {label!r}: a name may hold letters, digits, '-' and '_'."]
    return faults + _kind_faults(f"arm {label}: ", arm, ARM_KEYS)


def _kind_faults(where: str, node: Tree, kinds: Mapping[str, type]) -> list[str]:
    """Keys that are unknown, values of another kind, and what is no text within lists."""
    faults = [f"{where}{unknown('key', str(key), kinds)}" for key in node if key not in kinds]
    there = {key: node[key] for key in kinds if key in node}
    faults += [f"{where}{key} is {it!r}; it must be {KINDS[kinds[key]]}." for key, it in there.items() if type(it) is not kinds[key]]
    lists = {key: it for key, it in there.items() if isinstance(it, list)}
    return faults + [f"{where}{key} holds {one!r}; it must be text." for key, it in lists.items() for one in it if not isinstance(one, str)]


def choose(suite: Suite, names: Sequence[str]) -> Suite:
    """The suite with these arms alone (none named: all of them). The baseline always stays. Raises ConfigError."""
    if faults := [unknown("arm", name, suite.arms) for name in names if name not in suite.arms]:
        raise ConfigError(faults)
    kept = {name: arm for name, arm in suite.arms.items() if not names or name in names or name == suite.baseline}
    if len(kept) < 2:
        raise ConfigError(f"Only the baseline {suite.baseline!r} is left; choose at least one other arm of {', '.join(suite.arms)}.")
    return Suite(suite.name, suite.about, suite.sets, suite.draws, suite.baseline, suite.ours, kept)


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
            tree = _overlaid(base, arm, mute)
        except ConfigError as error:
            faults += [f"arm {label}: {fault}" for fault in error.faults]
            continue
        faults += [f"arm {label}: {fault}" for fault in _limit_faults(base, tree)]
        made.append(Arm(label, arm.get("about", ""), tree, where))
    if faults:
        raise ConfigError(faults)
    return base, made


def _overlaid(base: Tree, arm: Tree, mute: Tree) -> Tree:
    """The base under what the arm says; another policy that takes the same settings keeps the base's (random-mask those of auto)."""
    own = trees.merge([*(presets.read(name) for name in arm.get("presets", ())), arm.get("config", {})])
    made = config.check(trees.merge([base, own, mute])).tree
    old, new = base["policy"], made["policy"]
    if new["use"] != old["use"] and new.keys() == old.keys():
        made = config.check(trees.merge([base, own | {"policy": old | own["policy"]}, mute])).tree
    return forgetful(made)


def _limit_faults(base: Tree, tree: Tree) -> list[str]:
    """What an arm may not change, because all share it. No rounds at all is an arm's own business."""
    pairs = {f"budget.{name}": [one["budget"][name] for one in (base, tree)] for name in ("evaluations", "seconds")}
    pairs["batch"] = [base["batch"], tree["batch"]]
    return [
        f"{key} is {own}, the bench's is {shared}, and all arms share it. Take it out of the arm (where a preset brings it, write the "
        f"bench's own after it), or set it for all arms: --set {key}=..."
        for key, (shared, own) in pairs.items()
        if own != shared
    ]


def forgetful(tree: Tree) -> Tree:
    """The tree with a controller that remembers no picture: what one arm has looked at would cost the next one nothing."""
    return tree | ({"controller": {**tree["controller"], "remember": 0}} if "remember" in tree["controller"] else {})


def steering(tree: Tree, base: Tree) -> frozenset[str]:
    """The sources of metrics that decide what this arm keeps: ``controller``, ``reward:NAME`` (of the base), ``truth``.

    Derived from the configuration alone, and on the safe side. Nothing is decided without rounds. Rewards decide under the rules
    ``better``, ``reward`` and ``cleanest``, and among several first drawings; under ``off`` they break ties between candidates. The
    controller chooses what is repaired, so it counts under every rule, and so does a reward within it. What decides is what measures where
    they have one of their ``parts`` in common.
    """
    if tree["budget"]["rounds"] == 0:
        return frozenset()
    policy, gate = policy_of(tree), Gate(**config.arguments(Gate, tree["gate"]))
    rule = policy.gated(gate).rule
    tries = {"inpaint": len(policy.strengths) * policy.seeds, "redraw": policy.redraws}
    several = max(count for route, count in tries.items() if policy.route in ("auto", route)) > 1
    decide = rule in ("better", "reward", "cleanest") or policy.draws > 1 or (rule == "off" and several)
    deciding = parts(tree["controller"]) | (parts(tree["rewards"]) if decide else frozenset())
    found = {f"reward:{name}" for name, node in base["rewards"].items() if parts(node) & deciding}
    if parts(tree["controller"]) & parts(base["controller"]):
        found.add("controller")
    used = {use for role in ("controller", "policy", "rewards") for use, _ in parts(tree[role])}
    return frozenset(found | ({"truth"} if used & set(map(spelled, TRUTHFUL)) else set()))


def parts(node: Any) -> frozenset[tuple[str, str]]:
    """The models of a node, each as (module:Class, weights); of one that is made of others, these.

    Other settings, such as a name, a precision or a batch size, make no other model.
    """
    if not isinstance(node, Mapping):
        return frozenset()
    below = frozenset(part for value in node.values() for part in parts(value))
    return below if below or "use" not in node else frozenset({(spelled(node["use"]), str(node.get("source")))})


def spelled(use: str) -> str:
    """A plugin's name as the ``module:Class`` behind it."""
    return next((known[use] for kind in plugins.TABLE if use in (known := plugins.names(kind))), use)


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
