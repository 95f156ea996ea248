"""``aiops audit``."""

from __future__ import annotations

from aiops.cli.options import Config, DataDir, group_of, settings_of
from aiops.core.errors import PermanentError

app = group_of("Verify the audit log.")


@app.callback()
def group() -> None:
    """Verify the audit log."""


@app.command()
def verify(data_dir: DataDir = None, config: Config = None) -> None:
    """Check the hash chain of the audit log; exits 1 at the first broken entry."""
    from aiops import wiring

    log = wiring.audit(settings_of(config, data_dir))
    broken = log.verify()
    if broken is not None:
        raise PermanentError(f"The audit log is broken at entry {broken.sequence} ({broken.action} by {broken.actor}).")
    sequence, digest = log.head()
    print(f"The audit log is whole: {log.count()} entries, head {sequence} {digest}")
