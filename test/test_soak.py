"""The short form of `make soak`: see soak.py."""
import os
import random

import pytest

from lib import place, wait_for	# noqa: F401
from soak import soak

pytestmark = [pytest.mark.root, pytest.mark.skipif('ASAN_OPTIONS' in os.environ, reason='memory is measured')]


def test_soak(place):
    seed = int(os.environ.get('SEED', random.randrange(1 << 32)))
    assert soak(place, 8, seed) == [], seed
    assert wait_for(lambda: place.leftovers() == [], 5), place.leftovers()
