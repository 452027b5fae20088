"""Which controller may drive a real car: a bundle that passed the gate, or pursuit. Knows certificates, no hardware.

Pursuit needs no certificate: it has no weights, so there is nothing in it that a simulator could have taught; it is
code, held by the tests, and what every bundle falls back to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bridge.messages import VehicleProfile
from controller.policies import bundle_path, load_policy
from controller.policy import Policy

_SHORT = ("date", "commit", "worlds", "key", "bundle_sha256")


@dataclass(frozen=True)
class Admission:
    """A policy that may drive. `doubt`: why it is uncertified, None when it is certified or needs no certificate.
    `certificate`: in short, None without one."""

    policy: Policy
    doubt: str | None = None
    certificate: dict | None = None

    @property
    def notice(self) -> str:
        """One line for every screen."""
        if self.doubt is not None:
            return f"UNCERTIFIED: {self.policy.name} drives although {self.doubt}"
        if self.certificate is None:
            return f"{self.policy.name} drives; it is code and needs no certificate"
        kept = self.certificate
        return f"{self.policy.name} drives; certified {kept['date']} for {', '.join(kept['worlds'])} by {kept['key']}"

    def for_record(self) -> dict:
        """For run.json."""
        return {"policy": self.policy.name, "uncertified": self.doubt, "certificate": self.certificate}


def admit(
    controller: str, profile: VehicleProfile, *, uncertified: bool = False, keys: Iterable[Path] | None = None
) -> Admission:
    """Load `controller` for a real car. A bundle whose certificate is missing, failed, does not match or is signed by
    an unknown key is refused with CertificateError, unless `uncertified` is said. `keys`: folders of public keys to
    believe instead of the usual ones. Raises what `load_policy` raises as well."""
    path = bundle_path(controller)
    if path is None:
        return Admission(load_policy(controller, profile))
    # Not for pursuit: a car of before the gate may lack what these need.
    from controller.certificate import CertificateError, check_bundle
    from controller.onnx_policy import BundleError, OnnxPolicy

    certificate, digest, doubt = None, None, None
    if not path.is_file():
        raise BundleError(f"{path}: no such bundle")
    try:
        certificate, digest = check_bundle(path, keys)
    except CertificateError as error:
        if not uncertified:
            raise CertificateError(error.kind, f"{path}: {error}. To drive without: --uncertified") from error
        doubt = str(error)
    policy = OnnxPolicy(path, profile)
    if digest not in (None, policy.sha256):
        raise BundleError(f"{path} was changed while it was being loaded; start again")
    short = certificate and {name: getattr(certificate, name) for name in _SHORT}
    return Admission(policy, doubt, short)
