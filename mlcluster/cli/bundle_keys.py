"""The keys of a project: the one that signs its bundles, and those whose bundles it serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlcluster.errors import SpecError
from mlcluster.registry import Bundle, SigningKey, TrustedKeys
from mlcluster.spec import ServeSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleKeys:
    """`signing` is None where bundles are not signed, `trusted` where every bundle is served."""

    signing: SigningKey | None
    trusted: TrustedKeys | None

    @classmethod
    def read(cls, serve: ServeSpec, folder: Path) -> BundleKeys:
        """Those that the project file names, beside which they lie.

        Raises:
            SpecError: a file is no such key, or the project would not trust what it signs itself.
        """
        signing = None
        if serve.signing_key is not None:
            signing = SigningKey.read(folder / serve.signing_key, key="serve.signing_key")
        trusted = TrustedKeys.read((folder / name for name in serve.trusted_keys), key="serve.trusted_keys")
        if trusted is not None and (signing is None or signing.public not in trusted.keys):
            missing = "its public key is none of them" if signing else "there is none"
            raise SpecError(
                f"serve.trusted_keys = {', '.join(serve.trusted_keys)} would refuse each new model, since a run signs "
                f"with serve.signing_key and {missing}; set the one and list its .pub file in the other."
            )
        return cls(signing=signing, trusted=trusted)

    def signed(self, bundle: Bundle) -> Bundle:
        """The bundle with this project's signature, if it signs."""
        return bundle if self.signing is None else bundle.signed(self.signing)

    def read_bundle(self, folder: Path) -> Bundle:
        """The bundle in `folder`.

        Raises:
            BundleError: it is damaged, or signed by nobody whom the project trusts.
        """
        return Bundle.read(folder, trusted=self.trusted)
