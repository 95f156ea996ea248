"""Delivery of what the outbox holds: at least once, in order per receiver and incident, never one slow
receiver holding up the others. What cannot be delivered becomes a dead letter, visible and resendable."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import MappingProxyType

from aiops.core.errors import AiopsError, NotFound, TransientError
from aiops.core.incident import (
    Delivery,
    Incident,
    IncidentStatus,
    Notification,
    NotificationEvent,
    Severity,
)
from aiops.core.ports import Clock, Notifier, system_clock
from aiops.store.state.outbox import OutboxRepository

log = logging.getLogger(__name__)

FIRST_RETRY_MS = 1_000
LAST_RETRY_MS = 300_000
MAX_RETRY_AFTER_MS = 3_600_000
BATCH = 200
WORKERS = 4
"""Deliveries to one receiver at a time, so that one that hangs does not hold up the others."""
CLAIM_S = 15.0
"""A claimed delivery not begun after this is given back: well inside the outbox's lease."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """When to give up, and how fast to go.

    Attributes:
        max_attempts, min_age_ms: a dead letter is made when both are reached.
        per_minute: each receiver's limit.
    """

    max_attempts: int = 12
    min_age_ms: int = 3_600_000
    per_minute: int = 120


class Dispatcher:
    """Moves due notifications to their receivers.

    Args:
        receivers: notifiers by configured receiver name; a notification to another name is a dead letter.
        policy: attempts and rate.
        per_minute: rates of receivers that differ from the policy's.
    """

    def __init__(
        self,
        outbox: OutboxRepository,
        receivers: Mapping[str, Notifier],  # type: ignore[type-arg]
        clock: Clock = system_clock,
        policy: DeliveryPolicy = DeliveryPolicy(),
        per_minute: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._outbox = outbox
        self._receivers = dict(receivers)
        self._clock = clock
        self._policy = policy
        self._per_minute = dict(per_minute)
        self._lanes: dict[str, ThreadPoolExecutor] = {}
        self._sent: dict[str, deque[int]] = defaultdict(deque)
        self._paused_until: dict[str, int] = {}
        self._turns = threading.Lock()
        self._under_way: set[Future[int]] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._random = random.Random()  # noqa: S311  (jitter)

    def start(self, interval_s: float = 0.3) -> None:
        """Take over what a stopped service left half delivered, then deliver until :meth:`stop`."""
        self._outbox.release()

        def loop() -> None:
            while not self._stop.wait(interval_s):
                try:
                    self._hand_out()
                except TransientError as error:
                    log.warning("the outbox cannot be read: %s", error)
                except Exception:
                    log.exception("handing out notifications failed")

        self._thread = threading.Thread(target=loop, name="notify", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 15.0) -> None:
        """End after the deliveries under way; what is undelivered stays in the outbox."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        wait(set(self._under_way), timeout_s)
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)

    def run_once(self) -> int:
        """Deliver all that is due now and wait for it; returns how many deliveries were made."""
        futures = self._hand_out()
        return sum(f.result() for f in futures)

    def test(self, receiver: str) -> str:
        """Send a test message to one receiver now, past the outbox; returns its thread reference.

        Raises:
            NotFound: no receiver of that name.
            TransientError, PermanentError: what the receiver said.
        """
        if receiver not in self._receivers:
            known = ", ".join(sorted(self._receivers)) or "none"
            raise NotFound(f"There is no receiver '{receiver}'.", hint=f"Known: {known}.")
        now = self._clock()
        incident = Incident(
            id=f"TEST-{uuid.uuid4().hex[:8]}",
            status=IncidentStatus.OPEN,
            severity=Severity.INFO,
            title="Test message: nothing is wrong",
            service="aiops",
            opened_ms=now,
            updated_ms=now,
        )
        notification = Notification(str(uuid.uuid4()), receiver, NotificationEvent.TEST, incident, now, incident.id)
        return self._receivers[receiver].notify(notification)

    def resend(self, notification_id: str) -> Delivery:
        """Put a dead letter back. Raises ``NotFound``."""
        return self._outbox.resend(notification_id, self._clock())

    def _hand_out(self) -> list[Future[int]]:
        now = self._clock()
        batches: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in self._outbox.due(now, BATCH):
            batches[delivery.notification.receiver].append(delivery)
        claimed = time.monotonic()
        futures = []
        for name, deliveries in batches.items():
            lane = self._lanes.get(name) or ThreadPoolExecutor(WORKERS, f"notify-{name}")
            self._lanes[name] = lane
            # What was claimed together is about different incidents, so any order will do.
            parts = (deliveries[i::WORKERS] for i in range(WORKERS))
            futures += [lane.submit(self._deliver_all, name, part, claimed) for part in parts if part]
        self._under_way = {f for f in self._under_way if not f.done()} | set(futures)
        return futures

    def _deliver_all(self, name: str, deliveries: list[Delivery], claimed: float) -> int:
        made = 0
        try:
            for delivery in deliveries:
                if time.monotonic() - claimed > CLAIM_S or self._stop.is_set():
                    self._outbox.postponed(delivery.notification.id, delivery.last_error, self._clock())
                else:
                    made += self._deliver(name, delivery)
        except TransientError as error:
            # The state store is away: leases run out, and what was sent may be sent once more.
            log.warning("the outbox cannot be written: %s", error)
        return made

    def _deliver(self, name: str, delivery: Delivery) -> int:
        notification, now = delivery.notification, self._clock()
        notifier = self._receivers.get(name)
        if notifier is None:
            self._outbox.dead(notification.id, f"There is no receiver '{name}' any more.")
            return 0
        later = self._turn(name, now)
        if later > now:
            self._outbox.postponed(notification.id, delivery.last_error or "waiting for its turn", later)
            return 0
        started = time.monotonic()
        try:
            thread = notifier.notify(notification)
        except TransientError as error:
            self._retry(name, delivery, error)
            return 0
        except AiopsError as error:
            log.warning("dead letter: %s to %s: %s", notification.id, name, error)
            self._outbox.dead(notification.id, str(error))
            return 0
        except Exception as error:  # a plug-in's mistake must not stop the other receivers
            log.exception("receiver %s failed on %s", name, notification.id)
            self._outbox.dead(notification.id, f"The plug-in failed: {type(error).__name__}.")
            return 0
        self._outbox.delivered(notification.id, thread, self._clock())
        log.info("told %s of %s %s in %.0f ms", name, notification.dedup_key, notification.event.value,
                 1000 * (time.monotonic() - started))  # fmt: skip
        return 1

    def _retry(self, name: str, delivery: Delivery, error: TransientError) -> None:
        now = self._clock()
        old = now - delivery.notification.created_ms >= self._policy.min_age_ms
        if old and delivery.attempts >= self._policy.max_attempts:
            self._outbox.dead(delivery.notification.id, f"{error} Gave up after {delivery.attempts} attempts.")
            log.warning("dead letter: %s to %s: %s", delivery.notification.id, name, error)
            return
        if error.retry_after_s is not None:
            pause = min(int(error.retry_after_s * 1000), MAX_RETRY_AFTER_MS)
            self._paused_until[name] = now + pause
        else:
            ceiling = min(FIRST_RETRY_MS << min(delivery.attempts - 1, 20), LAST_RETRY_MS)
            pause = int(ceiling * self._random.uniform(0.5, 1.0))
        self._outbox.failed(delivery.notification.id, str(error), now + pause)

    def _turn(self, name: str, now: int) -> int:
        """``now`` with a turn taken, or when the receiver may be told next: its Retry-After, and our rate limit."""
        with self._turns:
            sent = self._sent[name]
            while sent and sent[0] <= now - 60_000:
                sent.popleft()
            limit = self._per_minute.get(name, self._policy.per_minute)
            free = sent[0] + 60_000 if len(sent) >= limit else now
            later = max(free, self._paused_until.get(name, now))
            if later <= now:
                sent.append(now)
            return later
