"""ganzoo.testing: the conformance kit. It checks that a part keeps the contract, and reports what does not.

On the command line, `ganzoo plugins check NAME_OR_FILE`; in the tests of a plugin, one line:

    test_my_gan = ganzoo.testing.conformance(MyGAN)
"""

from __future__ import annotations

from typing import Any

__all__ = ["checks", "conformance"]


def checks() -> dict[str, dict[str, str]]:
    """All checks of the kit: kind -> name of the check -> what it checks, in one line."""
    from ganzoo.testing.catalogue import CHECKS

    return {
        kind: {check.__name__: (check.__doc__ or "").partition("\n")[0] for check in members}
        for kind, members in CHECKS.items()
    }


def conformance(part: type[Any] | str, /, kind: str = "", **options: Any) -> Any:
    """A pytest test that runs every check on a part: a class, a name or a location, with these options.

    `test_my_gan = ganzoo.testing.conformance(MyGAN, width=8)`. `kind` is needed only for a name that two kinds use.
    """
    import pytest

    from ganzoo.testing.catalogue import CHECKS
    from ganzoo.testing.kit import Check, ExaminedPart, Failed, Skipped, run_check

    examined = ExaminedPart.of(part, kind, options)

    @pytest.mark.parametrize("check", CHECKS[examined.kind], ids=lambda check: check.__name__)
    def test(check: Check) -> None:
        __tracebackhide__ = True
        try:
            run_check(examined, check)
        except Skipped as skipped:
            pytest.skip(str(skipped))
        except Failed as failed:
            pytest.fail(str(failed), pytrace=False)

    return test
