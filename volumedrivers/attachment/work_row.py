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

"""What becomes of an operation's row of the journal when the operation does not go on."""

import abc
import typing


class WorkRow(abc.ABC):
    """An operation that keeps a row; a failure to write it is told in the operation's error."""

    @abc.abstractmethod
    def note(self, **changes: typing.Any) -> None:
        """Write the row, with everything the steps so far have found out."""

    def stopped(self, error: BaseException) -> None:
        """Write down why the operation did not go on."""
        try:
            self.note(problem=_sentence(error))
        except Exception as failure:
            error.add_note(f'and the journal could not be written: {failure}')

    def failed(self, error: BaseException, step: str, *, undone: bool) -> None:
        """Put the row in the state the failure left things in."""
        try:
            self.after_failure(_sentence(error), step, undone=undone)
        except Exception as failure:
            error.add_note(f'and the journal could not be brought up to date: {failure}')

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Write the row after a step failed; by default recover has to see to it.

        :param undone: whether the steps before it are undone
        """
        self.note(problem=problem)


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__
