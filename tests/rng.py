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

# The least that a domain needs to be one.
_DOMAIN = """<domain type='qemu'>
  <name>guest</name>
  <memory>1024</memory>
  <os><type arch='x86_64'>hvm</type></os>
  <devices/>
</domain>"""


@functools.cache
def schema(name):
    """Return a schema, loaded once a process; domain.rng takes half a second."""
    path = SCHEMAS / name
    assert path.is_file(), f'{path} is missing; install libvirt-daemon or libvirt0'
    return etree.RelaxNG(file=str(path))


def _element(xml):
    return etree.fromstring(xml) if isinstance(xml, str | bytes) else xml


def _validate(name, root):
    grammar = schema(name)
    if not grammar.validate(root):
        text = etree.tostring(root, encoding='unicode', pretty_print=True)
        raise AssertionError(f'{name}: {grammar.error_log.last_error}\n{text}')


def disk_is_valid(xml):
    """Tell whether libvirt's schema takes a <disk>."""
    try:
        validate_disk(xml)
    except AssertionError:
        return False
    return True


def validate_disk(xml):
    """Fail unless libvirt's schema takes a <disk>, given as text or element."""
    domain = etree.fromstring(_DOMAIN)
    domain.find('devices').append(_element(xml))
    _validate('domain.rng', domain)


def validate_secret(xml):
    """Fail unless libvirt's schema takes a <secret>."""
    _validate('secret.rng', _element(xml))


def validate_snapshot(xml):
    """Fail unless libvirt's schema takes a <domainsnapshot>."""
    _validate('domainsnapshot.rng', _element(xml))
