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

"""volumedrivers-nova-compute: nova-compute with this package's volume drivers.

It takes nova-compute's arguments, and one of its own may come first::

    volumedrivers-nova-compute [--check | --print-options] [argument ...]

``--check`` says which drivers are whose, and does not start.  ``--print-options``
writes what is in force to standard output, as a file by which the command
``volumedrivers`` finds the same journal.
"""

from collections.abc import Callable
import sys
import typing

from volumedrivers import exception

# What oslo.config names the process's own configuration file after.
_NAME = 'nova-compute'


def main(argv: list[str] | None = None) -> int:
    """Run; see the module.

    :returns: the exit code of the process
    """
    words = list(sys.argv[1:] if argv is None else argv)
    actions: dict[str, Callable[[], None]] = {'--check': _check, '--print-options': _print}
    own = words.pop(0) if words and words[0] in actions else None
    # Nova reads the arguments itself, more than once.
    sys.argv = [_NAME, *words]
    # Before all else: how this process's threads are is decided when it is loaded.
    from nova.cmd import compute  # noqa: PLC0415

    # What is printed is not to be mixed with the log, which may go there, too.
    _configure(sys.argv, with_log=own is None)
    try:
        if own is not None:
            actions[own]()
            return 0
        _register()
    except exception.VolumeDriversError as error:
        print(f'{_NAME} is not started: {error}', file=sys.stderr)
        return error.exit_code
    compute.main()
    return 0


def _configure(argv: list[str], *, with_log: bool) -> None:
    """Read Nova's configuration and let its log be written to, as nova-compute will again."""
    from nova import config  # noqa: PLC0415
    import nova.conf  # noqa: PLC0415
    from oslo_log import log  # noqa: PLC0415

    config.parse_args(argv, configure_db=False, init_rpc=False)
    if with_log:
        log.setup(nova.conf.CONF, 'nova')


def _register() -> typing.Any:
    from volumedrivers.nova import registration  # noqa: PLC0415
    from volumedrivers.nova import services  # noqa: PLC0415

    types = services.conf_of_nova().volumedrivers.nova_volume_types
    return registration.register(types or None)


def _check() -> None:
    from nova.virt.libvirt import driver  # noqa: PLC0415

    from volumedrivers.nova import drivers  # noqa: PLC0415
    from volumedrivers.nova import interface  # noqa: PLC0415

    _register()
    print(f'Nova {interface.version_of_nova()}')
    for name, path in sorted(driver.VOLUME_DRIVERS.items()):
        whose = 'volumedrivers' if drivers.type_of(path) is not None else 'Nova'
        print(f'{name:20} {whose}')


def _print() -> None:
    from volumedrivers.nova import options  # noqa: PLC0415
    from volumedrivers.nova import services  # noqa: PLC0415

    print(options.as_file(services.conf_of_nova()), end='')


if __name__ == '__main__':
    sys.exit(main())
