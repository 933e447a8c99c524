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

"""The shipped filters, asked as oslo.rootwrap asks them."""

import configparser
import pathlib

from oslo_rootwrap import wrapper
import pytest

FILTERS = pathlib.Path(__file__).parents[2] / 'etc/rootwrap.d/volumedrivers.filters'
CONTEXTS = (
    'volumedrivers.privsep.context.sys_admin',
    'os_brick.privileged.default',
    'os_brick.privileged.brick_privsep_hide_output',
)


def allowed(command):
    # Without the filter that oslo.rootwrap adds to all: this is about ours.
    parsed = configparser.RawConfigParser(strict=False)
    parsed.read(FILTERS)
    filters = [
        wrapper.build_filter(*(part.strip() for part in value.split(',')))
        for _, value in parsed.items('Filters')
    ]
    assert None not in filters
    return any(each.match(command) for each in filters)


def helper(context, *arguments, socket='/tmp/tmpabc/privsep.sock'):
    end = ['--privsep_context', context, '--privsep_sock_path', socket]
    return ['privsep-helper', *arguments, *end]


@pytest.mark.parametrize('context', CONTEXTS)
@pytest.mark.parametrize('count', range(7))
def test_each_context_starts_with_any_number_of_files(context, count):
    arguments = ['--config-file', '/etc/volumedrivers/volumedrivers.conf'] * count
    assert allowed(helper(context, *arguments))


@pytest.mark.parametrize('context', CONTEXTS)
def test_directories_and_other_sockets_are_allowed(context):
    arguments = ['--config-file', '/opt/x/a.conf', '--config-dir', '/etc/nova/conf.d']
    assert allowed(helper(context, *arguments, socket='/var/tmp/private/x/privsep.sock'))


@pytest.mark.parametrize(
    'command',
    [
        ['id'],
        ['sh', '-c', 'id'],
        ['privsep-helper'],
        helper('os.path'),
        helper('volumedriversXprivsep.context.sys_admin'),
        helper('os_brick.privileged.default.more'),
        helper(CONTEXTS[0], '--config-file', 'relative.conf'),
        helper(CONTEXTS[0], '--log-config-append', '/tmp/x'),
        helper(CONTEXTS[0], '--config-fileX', '/etc/x'),
        [*helper(CONTEXTS[0]), '--debug'],
        helper(CONTEXTS[0], socket='privsep.sock'),
    ],
    ids=' '.join,
)
def test_nothing_else_is_listed(command):
    assert not allowed(command)
