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

"""The privileged context of this package: what may run as root, and with what.

A function of this package that is decorated with :func:`privileged` runs in a
helper process of oslo.privsep; the caller stays an ordinary user.  As root,
and once :func:`volumedrivers.host.bootstrap.setup` was called, it runs in the
calling process.

The helper keeps two capabilities:

CAP_SYS_ADMIN
    the kernel's rbd module asks for it where a device is unmapped.
CAP_DAC_OVERRIDE
    mount points are made and removed in a directory of the service's user;
    CAP_DAC_READ_SEARCH is not enough for that.

The programs a function starts (mount, umount, multipath) are executed by uid
0 and have root's full set again; that is how Linux treats root's exec, and
what mount helpers such as mount.glusterfs need.

Whoever may start privsep-helper through rootwrap is as good as root:
oslo.rootwrap allows privsep-helper with any argument, whatever the filters
say, and os-brick's own context executes any command.  So the checks in the
privileged functions do not stop somebody who has taken over the service's
account.  They stop what comes in over the network, a name or an export of a
volume that leads elsewhere, and a mistake in this package, from being carried
out as root.  They hold all the same for the account where a deployment closes
the other two ways, which is why no argument can widen them.
"""

import functools
import typing

from volumedrivers import exception
from volumedrivers.privsep import hidden_eventlet

with hidden_eventlet.hidden():
    from oslo_privsep import capabilities
    from oslo_privsep import comm
    from oslo_privsep import daemon
    from oslo_privsep import priv_context

SECTION = 'volumedrivers_privileged'

sys_admin = priv_context.PrivContext(
    'volumedrivers.privsep',
    cfg_section=SECTION,
    pypath='volumedrivers.privsep.context.sys_admin',
    capabilities=[capabilities.CAP_SYS_ADMIN, capabilities.CAP_DAC_OVERRIDE],
    logger_name='volumedrivers.privsep',
)

# Seconds; each function has a shorter deadline of its own, so this one only
# ends where the helper itself hangs.
CALL_TIMEOUT = 900.0

_Arguments = typing.ParamSpec('_Arguments')
_Returned = typing.TypeVar('_Returned')


def privileged(
    function: typing.Callable[_Arguments, _Returned],
) -> typing.Callable[_Arguments, _Returned]:
    """Make a function run as root, and its errors ours.

    Errors of this package come back as they were raised; arguments and
    results have to be plain data.

    :raises PrivilegedCallRefused: the helper cannot be started
    :raises DeadlineExceeded: it does not answer
    """
    entry = sys_admin.entrypoint(function)

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Returned:
        name = function.__name__
        if sys_admin.client_mode and sys_admin.channel is None:
            try:
                sys_admin.start()
            except OSError as error:
                raise exception.PrivilegedCallRefused(
                    function=name, reason=f'the helper cannot be started: {error.strerror}'
                ) from error
            except daemon.FailedToDropPrivileges as error:
                raise _not_started(name, error) from error
        try:
            result: _Returned = entry(*args, _wrap_timeout=CALL_TIMEOUT, **kwargs)
        except daemon.FailedToDropPrivileges as error:
            raise _not_started(name, error) from error
        except comm.PrivsepTimeout as error:
            raise exception.DeadlineExceeded(
                what=f'privileged {name}', seconds=CALL_TIMEOUT
            ) from error
        return result

    # What the helper looks for before it calls a function by its name.
    setattr(call, priv_context._ENTRYPOINT_ATTR, sys_admin)
    return call


def _not_started(name: str, error: Exception) -> exception.PrivilegedCallRefused:
    return exception.PrivilegedCallRefused(
        function=name,
        reason=f'the helper cannot be started: {error}; "sudo -n -l" should list rootwrap, '
        f'and the filters privsep-helper',
    )
