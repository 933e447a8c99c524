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

"""Stand-in of drv_cfg, the program that configures the PowerFlex client.

Only what asks is here (dell/goscaleio, ``drv_cfg.go``): --query_guid,
--query_mdms, --rescan.
"""

import sys

from tests.lab.standins import powerflex


def main(arguments: list[str]) -> int:
    if arguments == ['--query_guid']:
        print(powerflex.SDC_GUID.upper())
        return 0
    if arguments == ['--query_mdms']:
        print('Retrieved 1 mdm(s)')
        print(f'MDM-ID {powerflex.SYSTEM} SDC ID 4a1c2b3d00000000 IPs [0]-{powerflex.ADDRESS}')
        return 0
    if arguments == ['--rescan']:
        powerflex.rescan()
        print('Successfully completed the rescan')
        return 0
    print(f'drv_cfg: unknown arguments: {" ".join(arguments)}', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
