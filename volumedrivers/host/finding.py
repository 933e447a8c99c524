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

"""What a check of this host found, for a person to act on."""

import dataclasses
import enum


class Status(enum.StrEnum):
    """How bad it is."""

    OK = 'ok'
    WARNING = 'warning'  # some volumes will not work, or not well
    PROBLEM = 'problem'  # what the configuration asks for cannot work
    UNKNOWN = 'unknown'  # this process could not tell


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :ivar what: what was found, one sentence
    :ivar what_to_do: empty when there is nothing to do
    """

    name: str
    status: Status
    what: str
    what_to_do: str = ''


def ok(name: str, what: str) -> Finding:
    """All is well."""
    return Finding(name, Status.OK, what)


def warning(name: str, what: str, what_to_do: str) -> Finding:
    """Some volumes will not work, or not well."""
    return Finding(name, Status.WARNING, what, what_to_do)


def problem(name: str, what: str, what_to_do: str) -> Finding:
    """What the configuration asks for cannot work."""
    return Finding(name, Status.PROBLEM, what, what_to_do)


def unknown(name: str, what: str, what_to_do: str = '') -> Finding:
    """This process could not tell."""
    return Finding(name, Status.UNKNOWN, what, what_to_do)
