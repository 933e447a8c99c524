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
from hypothesis import given
from hypothesis import strategies as st
import pytest

from tests import rng
from volumedrivers import exception
from volumedrivers.libvirt.secret import Secret
from volumedrivers.libvirt.secret import Usage


@pytest.mark.parametrize(
    ('usage_type', 'tag', 'usage_id'),
    [
        ('volume', 'volume', '/dev/mapper/volume-1'),
        ('ceph', 'name', 'client.cinder secret'),
        ('iscsi', 'target', 'iqn.2010-10.org.openstack:volume-1'),
        ('tls', 'name', 'nbd'),
        ('vtpm', 'name', 'guest'),
    ],
)
def test_each_usage_has_its_id_in_its_own_element(usage_type, tag, usage_id):
    secret = Secret(ephemeral=True, private=True, usage=Usage.of(usage_type, usage_id))
    assert secret.to_xml() == (
        '<secret ephemeral="yes" private="yes">\n'
        f'  <usage type="{usage_type}">\n'
        f'    <{tag}>{usage_id}</{tag}>\n'
        '  </usage>\n'
        '</secret>'
    )
    rng.validate_secret(secret.to_xml())
    assert Secret.parse(secret.to_xml()).usage.id == usage_id


def test_an_unknown_usage_is_refused():
    with pytest.raises(exception.InvalidDocument) as caught:
        Usage.of('cephx', 'a')
    assert "'cephx'" in str(caught.value)
    assert 'volume, ceph, iscsi, tls, vtpm' in str(caught.value)


def test_a_usage_without_an_id_has_none():
    assert Usage(type='volume').id is None


# [^/\n] is what the schema allows in a name.
_names = st.text(
    st.characters(codec='utf-8', categories=('L', 'N', 'P', 'Zs'), exclude_characters='/'),
    min_size=1,
)


@given(
    st.builds(
        Secret,
        ephemeral=st.none() | st.booleans(),
        private=st.none() | st.booleans(),
        uuid=st.none() | st.uuids().map(str),
        description=st.none() | _names,
        usage=st.none()
        | st.builds(Usage.of, st.sampled_from(('ceph', 'iscsi', 'tls', 'vtpm')), _names),
    )
)
def test_a_secret_survives_and_is_valid(secret):
    assert Secret.parse(secret.build()) == secret
    assert Secret.parse(secret.to_xml()) == secret
    rng.validate_secret(secret.build())
