"""The policy that risk officers sign: per risk class, what every declaration must at least demand.

Document ``ml-platform/policy/1``::

    {"format": "ml-platform/policy/1", "authorship": "claimed" | "signed",
     "classes": {<risk class>: {"approvers": {"canary": n, "production": n},   n >= 1
                                "gates": [<gate specification with its loosest threshold>, ...],
                                "may_ask": [<kind of gate>, ...],
                                "may_be_unavailable": [<kind of gate>, ...]}}}

Of a declaration's specification this package reads ``risk_class`` (default ``high``), ``approvals``
({"canary": n, "production": n}) and ``gates``; declarations may only be stricter. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ml_platform.core.errors import ApprovalMissing, DeclarationError, PolicyViolation
from ml_platform.registry.bodies import IDENTIFIER, OPEN, POSITIVE, Check, Shape, choice, many
from ml_platform.registry.gates import covers, gate_kind, gate_name, on_inconclusive
from ml_platform.registry.state import VersionState

__all__ = [
    "DEFAULT_RISK_CLASS",
    "POLICY_FORMAT",
    "check_declaration",
    "check_policy",
    "policy_document",
    "require_enough",
    "required_approvals",
    "risk_class",
    "risk_rules",
]

POLICY_FORMAT: Final = "ml-platform/policy/1"
DEFAULT_RISK_CLASS: Final = "high"
_UNKNOWN_AUTHOR_APPROVERS: Final = 2

_CLASS: Final = Shape(
    {
        "approvers": Shape({"canary": POSITIVE, "production": POSITIVE}).as_check("{canary, production}"),
        "gates": many(OPEN),
        "may_ask": many(IDENTIFIER),
        "may_be_unavailable": many(IDENTIFIER),
    }
)
_POLICY: Final = Shape(
    {
        "format": choice(POLICY_FORMAT),
        "authorship": choice("claimed", "signed"),
        "classes": Check(
            "object of risk class: {approvers, gates, may_ask, may_be_unavailable}",
            lambda value: isinstance(value, dict) and bool(value) and all(map(IDENTIFIER.holds, value)),
        ),
    }
)


def policy_document(classes: Mapping[str, Mapping[str, object]], *, authorship: str = "claimed") -> dict[str, Any]:
    """A checked policy; each class may leave out what it does not demand.

    Raises:
        DeclarationError: a wrong field.
    """
    defaults = {
        "approvers": {"canary": 1, "production": 1},
        "gates": [],
        "may_ask": [],
        "may_be_unavailable": [],
    }
    document = {
        "format": POLICY_FORMAT,
        "authorship": authorship,
        "classes": {name: {**defaults, **rules} for name, rules in classes.items()},
    }
    check_policy(document)
    return document


def check_policy(document: object) -> None:
    """Raises `DeclarationError` when a document is no policy."""
    _POLICY.require(document, what="the policy")
    classes: Mapping[str, Any] = document["classes"]  # type: ignore[index]
    for rules in classes.values():
        _CLASS.require(rules, what="a risk class of the policy")
        for gate in rules["gates"]:
            gate_kind(gate)


def risk_class(spec: Mapping[str, Any]) -> str:
    """The risk class that a declaration names."""
    return str(spec.get("risk_class", DEFAULT_RISK_CLASS))


def risk_rules(policy: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What the policy says about a risk class.

    Raises:
        PolicyViolation: it says nothing: then nothing is allowed.
    """
    rules = policy["classes"].get(name)
    if rules is None:
        raise PolicyViolation(
            "The policy has no such risk class.",
            field="risk_class",
            next_step=f"Declare one of {', '.join(sorted(policy['classes']))}, or have officers sign a new policy.",
        )
    return rules  # type: ignore[no-any-return]


def check_declaration(policy: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Holds a declaration against the policy.

    Args:
        policy: a policy document.
        spec: the canonical specification of the model.

    Raises:
        PolicyViolation: the declaration is laxer: fewer approvers, a mandatory gate missing or with a looser
            threshold, or a gate that may ask though the policy does not allow it.
    """
    rules = risk_rules(policy, risk_class(spec))
    declared_approvals = spec.get("approvals", {})
    for stage, least in rules["approvers"].items():
        # An absent number is no laxer wish: the policy's minimum then holds.
        if declared_approvals.get(stage, least) < least:
            raise PolicyViolation(
                f"The declaration asks for fewer approvers than the policy's {least}.",
                field=f"approvals.{stage}",
                next_step=f"Declare at least {least}.",
            )
    gates = list(spec.get("gates", []))
    for minimum in rules["gates"]:
        if not any(_covers(gate, minimum) for gate in gates):
            raise PolicyViolation(
                "A gate that the policy demands is missing, or declared with a looser threshold.",
                field=f"gates.{gate_name(minimum)}",
                next_step="Declare it at least as strictly as the policy does.",
            )
    for gate in gates:
        if on_inconclusive(gate) == "ask" and gate_kind(gate) not in rules["may_ask"]:
            raise PolicyViolation(
                "The policy does not let this gate ask a person when it is inconclusive.",
                field=f"gates.{gate_name(gate)}",
                next_step='Declare on_inconclusive="refuse", or have officers sign a policy that allows it.',
            )


def _covers(declared: Mapping[str, Any], minimum: Mapping[str, Any]) -> bool:
    try:
        return gate_kind(declared) == gate_kind(minimum) and covers(declared, minimum)
    except DeclarationError:
        return False


def authorship_known(policy: Mapping[str, Any], version: VersionState) -> bool:
    """Whether the policy accepts what is known about a version's authors."""
    signed = policy["authorship"] == "claimed" or version.authorship.basis == "signed"
    return version.authorship.known and signed


def required_approvals(policy: Mapping[str, Any], spec: Mapping[str, Any], version: VersionState, stage: str) -> int:
    """How many distinct people must approve a promotion to this stage.

    The larger of policy and declaration; at least two where the author is unknown.
    """
    least = int(risk_rules(policy, version.risk_class)["approvers"][stage])
    declared = int(spec.get("approvals", {}).get(stage, 0))
    unknown = 0 if authorship_known(policy, version) else _UNKNOWN_AUTHOR_APPROVERS
    return max(least, declared, unknown)


def require_enough(policy: Mapping[str, Any], version: VersionState, count: int, required: int, stage: str) -> None:
    """Raises `ApprovalMissing`, with the command to type, when fewer people approved than are required."""
    if count >= required:
        return
    unknown = required == _UNKNOWN_AUTHOR_APPROVERS and not authorship_known(policy, version)
    why = " Two people are needed where nobody can say who wrote the code: one of them may have." if unknown else ""
    line = f'mlp approve {version.model} {version.number} --to {stage} --key KEYFILE --reason "WHY"'
    raise ApprovalMissing(
        f"{count} of {required} approvals for {stage} are there.{why}",
        field="approvals",
        next_step=f"People who are not authors each type: `{line}`.",
    )
