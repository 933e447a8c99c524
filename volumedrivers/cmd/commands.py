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

"""The commands and where they are; looking one up imports only that one."""

from collections.abc import Iterator
import importlib
import typing

from cliff import commandmanager


class Command(typing.NamedTuple):
    """One command, known without importing it; quacks like an entry point."""

    name: str
    value: str  # module:Class below volumedrivers.cmd
    summary: str

    def load(self) -> typing.Any:
        """Import the class."""
        module, _, attribute = self.value.partition(':')
        return getattr(importlib.import_module(f'volumedrivers.cmd.{module}'), attribute)


COMMANDS = (
    Command('volume list', 'volume_listing:List', 'List the volumes of the project in Cinder'),
    Command(
        'volume show', 'volume_listing:Show', 'Show what Cinder and this host know of a volume'
    ),
    Command('volume attach', 'volume:Attach', 'Bring a volume of Cinder into a guest'),
    Command('volume detach', 'volume:Detach', 'Take a volume of Cinder out of a guest'),
    Command(
        'volume attachments',
        'volume_listing:Attachments',
        "List attachments: Cinder's, and what this host knows of them",
    ),
    Command(
        'volume extend',
        'volume_change:Extend',
        'Extend a volume in Cinder and in the guests that have it',
    ),
    Command(
        'volume refresh',
        'volume_change:Refresh',
        'Let a guest reach its volume as Cinder says now',
    ),
    Command(
        'volume swap',
        'volume_change:Swap',
        'Let a guest go over to the volume that Cinder migrates to',
    ),
    Command('attach', 'attach:Attach', 'Bring a volume to this host and into a guest'),
    Command('detach', 'detach:Detach', 'Take a volume out of a guest and off this host'),
    Command('extend', 'extend:Extend', 'Let a guest see that its volume has grown'),
    Command('qos', 'qos:Qos', 'Limit what a guest may read and write on a volume, live'),
    Command('list', 'listing:List', 'List the volumes that guests have'),
    Command('show', 'listing:Show', 'Show one volume of a guest and the way to its storage'),
    Command('audit', 'upkeep:Audit', 'Compare journal, guests and this host; change nothing'),
    Command('recover', 'upkeep:Recover', 'Finish or undo what was interrupted'),
    Command('repair', 'paths:Repair', 'Add the missing paths of attached volumes that are back'),
    Command(
        'reconnect', 'paths:Reconnect', "Bring a guest's volume to this host again, after a reboot"
    ),
    Command(
        'forget', 'upkeep:Forget', 'Take an attachment out of the journal; touch nothing else'
    ),
    Command('disk xml', 'disk:DiskXml', 'Print the <disk> that a guest would get'),
    Command('driver list', 'driver:DriverList', 'List the volume drivers'),
    Command('driver show', 'driver:DriverShow', 'Show one volume driver and why it cannot work'),
    Command('connector show', 'connector:ConnectorShow', 'Show who this host is to Cinder'),
    Command('host check', 'host:HostCheck', 'Check what this host needs, and say what to do'),
    Command('help', 'help:Help', 'Show the commands, or the options of one'),
    Command('complete', 'help:Complete', 'Print shell completion ("source <(... complete)")'),
)


class CommandTable(commandmanager.CommandManager):
    """cliff's command manager over the table; scans no entry points."""

    def _load_commands(self) -> None:
        self.namespace = None
        for command in COMMANDS:
            self.commands[command.name] = typing.cast(typing.Any, command)

    def add_command(self, name: str, command_class: typing.Any) -> None:
        """Ignore the commands that cliff adds itself; the table has ours."""

    def __iter__(self) -> Iterator[tuple[str, typing.Any]]:
        return iter(self.commands.items())
