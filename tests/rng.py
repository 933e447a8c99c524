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
"""Validate documents against the RELAX NG schemas that libvirt installs."""

import functools
import pathlib

from lxml import etree

SCHEMAS = pathlib.Path('/usr/share/libvirt/schemas')

# A schema starts with the whole document; this starts it with a part of it.
_PART = """<grammar xmlns='http://relaxng.org/ns/structure/1.0'>
  <include href='{path}'><start><ref name='{part}'/></start></include>
</grammar>"""


@functools.cache
def _schema(name, part):
    path = SCHEMAS / name
    assert path.is_file(), f'{path} is missing; install the Debian package libvirt0'
    grammar = etree.fromstring(_PART.format(path=path, part=part), base_url=str(path))
    return etree.RelaxNG(grammar)


def _validate(name, part, xml):
    element = etree.fromstring(xml) if isinstance(xml, str | bytes) else xml
    schema = _schema(name, part)
    if not schema.validate(element):
        text = etree.tostring(element, encoding='unicode', pretty_print=True)
        reasons = '\n'.join(error.message for error in schema.error_log)
        raise AssertionError(f'<{part}> of {name}: {reasons}\n{text}')


def validate_disk(xml):
    """Fail unless libvirt's schema takes a <disk>, given as text or element."""
    _validate('domain.rng', 'disk', xml)


def disk_is_valid(xml):
    """Tell whether libvirt's schema takes a <disk>."""
    try:
        validate_disk(xml)
    except AssertionError:
        return False
    return True


def validate_secret(xml):
    """Fail unless libvirt's schema takes a <secret>."""
    _validate('secret.rng', 'secret', xml)


def validate_snapshot(xml):
    """Fail unless libvirt's schema takes a <domainsnapshot>."""
    _validate('domainsnapshot.rng', 'domainsnapshot', xml)
