"""The registry's methods for what serves: reversals, routes, local rollbacks, rollouts; part of `Registry`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from ml_platform.core.clock import parse_utc
from ml_platform.core.errors import NotFound
from ml_platform.registry.events import Event
from ml_platform.registry.flip import open_flip
from ml_platform.registry.reversals import reversible
from ml_platform.registry.route import open_route
from ml_platform.registry.routes import MAX_FLIP_LAG
from ml_platform.registry.state import State
from ml_platform.registry.writing import Writing

__all__ = ["RouteWrites"]


class RouteWrites(Writing):
    """Writes about what serves; see `Registry`. Each may be repeated, and returns the log index of what is there."""

    def reverse_transition(self, model: str, *, transition: int, actor: str, reason: str) -> int:
        """Undoes a promotion on which no route rests; its approvals may be used again. Returns the log index.

        Args:
            model: model name.
            transition: log index of the promotion, the newest transition of the model.
            actor: principal who promoted.
            reason: why; kept as evidence.

        Raises:
            Conflict: another transition was written since, or a route rests on this one.
            IllegalTransition: it was no promotion.
        """
        digest = self._evidence.put(reason.encode())

        def decide(state: State, _: str) -> list[Event]:
            version, source, to, restored = reversible(state.model(model), transition)
            body = {
                "transition": transition,
                "version": version,
                "from": source,
                "to": to,
                "restored": restored,
                "actor": actor,
                "reason": digest,
            }
            return [Event("transition_reversed", body, model, self._effective_now(state))]

        return self._write(decide)[0]

    def apply_route(self, model: str, *, route: bytes, transition: int | None, actor: str) -> int:
        """Enters a signed route as the one in force; returns the log index.

        Args:
            model: model name.
            route: the bytes of the signed file.
            transition: log index of the transition that it carries out; None for another reason, such as a share.
            actor: principal who asked.

        Raises:
            Tampered: the service key did not sign it.
            Conflict: it does not follow the newest route, or leaves a local rollback standing.
            IllegalTransition: a version may not serve in its arm.
        """
        genesis = self._log.refresh().genesis
        signed = open_route(route, genesis.service_key if genesis else "")
        digest, done = self._evidence.put(route), list[int]()
        body = {
            "epoch": signed.route.epoch,
            "route": digest,
            "digest": signed.digest,
            "previous": signed.route.previous,
            "arms": [{name: asdict(arm)[name] for name in ("arm", "version", "share_bp")} for arm in signed.route.arms],
            "rollbacks": [one.version for one in signed.route.allowed_rollbacks],
            "supersedes_flip": signed.route.supersedes_flip,
            "transition": transition,
            "actor": actor,
        }

        def decide(state: State, _: str) -> list[Event]:
            known = state.model(model).route
            if known is not None and known.digest == signed.digest:
                done[:] = [known.index]
                return []
            return [Event("route_applied", body, model, self._effective_now(state))]

        return self._once(decide, done, publish=True)

    def enter_flip(self, model: str, *, flip: bytes) -> int:
        """Enters a local rollback that has happened; returns the log index.

        It took effect when its document says that it was made, but at most seven days before it is entered.

        Args:
            model: model name.
            flip: the bytes of its file; the written reason is in the object store already.

        Raises:
            Conflict: it outranks another route than the newest, or a later flip was entered.
            IllegalTransition: the route does not allow the version.
        """
        made = open_flip(flip)
        digest, done = self._evidence.put(flip), list[int]()
        body = {
            "flip": digest,
            "digest": made.digest,
            "route": made.route,
            "target": made.target,
            "counter": made.counter,
            "actor": made.principal,
            "reason": made.reason_digest,
        }

        def decide(state: State, recorded_at: str) -> list[Event]:
            known = state.model(model).flip
            if known is not None and known.digest == made.digest:
                done[:] = [known.index]
                return []
            at = self._effective_now(state) or _within_lag(parse_utc(made.issued_at), parse_utc(recorded_at))
            return [Event("route_flipped", body, model, at)]

        return self._once(decide, done, publish=True)

    def decide_rollout(
        self, model: str, *, version: int, decision: str, share_bp: int, evidence: str, actor: str
    ) -> int:
        """Enters a decision about the canary; the same one again, with the same evidence, is not repeated.

        Args:
            model: model name.
            version: the version in canary.
            decision: ``advance``, ``hold``, ``rollback`` or ``ask``.
            share_bp: the share that it shall have from now on, in basis points.
            evidence: digest of what was measured.
            actor: principal, or the service that decided by the plan.

        Raises:
            IllegalTransition: the version is not in canary.
            DeclarationError: share and decision contradict each other.
        """
        body = {
            "version": version,
            "decision": decision,
            "share_bp": share_bp,
            "evidence": evidence,
            "actor": actor,
        }
        done = list[int]()

        def decide(state: State, _: str) -> list[Event]:
            rollout = state.model(model).rollout
            last = rollout.last if rollout is not None and rollout.version == version else None
            if last is not None and {name: getattr(last, name, version) for name in body} == body:
                done[:] = [last.index]
                return []
            return [Event("rollout_decided", body, model, self._effective_now(state))]

        return self._once(decide, done, publish=True)

    def applied_route(self, model: str) -> bytes:
        """The signed file of the route in force, as evidence keeps it.

        Raises:
            NotFound: none was applied yet.
        """
        route = self._log.refresh().model(model).route
        if route is None:
            raise NotFound(
                f"No route of {model} was applied.",
                field="route",
                next_step="A promotion to production makes the first one.",
            )
        return self._evidence.read(route.route)


def _within_lag(at: datetime, recorded_at: datetime) -> datetime:
    return min(max(at, recorded_at - MAX_FLIP_LAG), recorded_at)
