"""All checks of ganzoo for an architecture and for a loss."""

from ganzoo_hello.losses import LogisticMargin
from ganzoo_hello.nets import Hello

import ganzoo.testing

test_hello = ganzoo.testing.conformance(Hello)
test_logistic_margin = ganzoo.testing.conformance(LogisticMargin)
