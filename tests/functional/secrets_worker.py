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

"""A process that uses the library with everything logged, and tells all it learns.

    python -m tests.functional.secrets_worker

The order comes by standard input, so that nothing of it is an argument.
"""

import json
import os
import signal
import sys
import time
import traceback
import typing

from oslo_config import cfg
from oslo_log import log as logging

from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.hypervisor import Hypervisor


def configure(order: dict[str, typing.Any]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    logging.register_options(conf)
    conf(['--config-file', order['config']], project='volumedrivers')
    conf.set_override('debug', True)
    conf.set_override('log_file', order['log'])
    # Nobody is quieter than the rest.
    conf.set_override('default_log_levels', [])
    logging.setup(conf, 'volumedrivers')
    for name in ('os_brick', 'oslo', 'oslo_privsep', 'castellan', 'volumedrivers', ''):
        logging.getLogger(name or None).logger.setLevel(logging.DEBUG)
    bootstrap.setup(conf)
    return conf


def perform(manager: AttachmentManager, call: dict[str, typing.Any]) -> typing.Any:
    """Carry one call out; everything that it answers is printed."""
    name, guest = call['do'], call.get('guest', '')
    info = ConnectionInfo.parse(call['info']) if call.get('info') else None
    if name == 'attach':
        assert info is not None
        encryption = call.get('encryption')
        return manager.attach(
            info,
            guest,
            DiskRequest(bus='scsi'),
            encryption=None if encryption is None else VolumeEncryption.parse(encryption),
        )
    if name == 'detach':
        return manager.detach(guest, call['volume'], connection_info=info, force=True)
    if name == 'extend':
        return manager.extend(guest, call['volume'], call['size'])
    if name == 'recover':
        return manager.recover({} if info is None else {str(info.volume_id): info})
    if name == 'show':
        return manager.show(guest, call['volume'])
    if name == 'plan':
        assert info is not None
        return manager.plan_attach(info, guest, DiskRequest(bus='scsi'))
    return getattr(manager, name)()


def tell(error: BaseException) -> None:
    """Print everything that an error holds."""
    traceback.print_exception(error, chain=True)
    while error is not None:
        print(repr(error), str(error), vars(error), getattr(error, '__notes__', ()))
        error = typing.cast(BaseException, error.__cause__ or error.__context__)


def main() -> None:
    order = json.loads(sys.stdin.read())
    conf = configure(order)
    log = logging.getLogger('volumedrivers.attachment')
    if order.get('plant'):
        log.debug('planted: %s', order['plant'])
        sys.stderr.write(f'planted: {order["plant"]}\n')

    def observe(operation: str, step: str, moment: str) -> None:
        if order.get('kill') == [operation, step, moment]:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(10)

    with Hypervisor(order['uri']) as hypervisor:
        manager = make_manager(conf, hypervisor, observer=observe)
        for call in order['calls']:
            try:
                answer = perform(manager, call)
                print(f'{call["do"]}: {answer!r} {answer}')
            except Exception as error:
                print(f'{call["do"]} failed: {type(error).__name__}')
                tell(error)


if __name__ == '__main__':
    main()
