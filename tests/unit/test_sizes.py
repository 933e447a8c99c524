#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

import pytest

from volumedrivers import exception
from volumedrivers import sizes


@pytest.mark.parametrize('size', [0, -1, True, 1.5, '1', None])
def test_no_size_of_a_volume(size):
    with pytest.raises(exception.InvalidSize, match='volume v is refused'):
        sizes.check_size(size, 'volume v')


def test_a_size_is_given_back():
    assert sizes.check_size(2**40, 'volume v') == 2**40
