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

"""How Cinder is asked; where it is, group [cinder] and clouds.yaml say."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        'cinder_cloud',
        help=prose(
            """
Name of the cloud in clouds.yaml whose block storage is used.  Not set: the
environment (OS_CLOUD, OS_AUTH_URL ...) counts, and where that says nothing,
group [cinder].  The command line's --os-cloud comes first.
"""
        ),
    ),
    cfg.IntOpt(
        'cinder_retries',
        default=3,
        min=0,
        max=20,
        help=prose(
            """
How often a request to Cinder is sent again that had no answer, or one of
status 500, 502, 503 or 504.  Only what may be done twice is: reading,
updating and deleting an attachment.  The pause before is 0.5 s, and doubled
each time.
"""
        ),
    ),
    cfg.FloatOpt(
        'cinder_timeout',
        default=120.0,
        min=1.0,
        help=prose(
            """
Seconds that Cinder may take to answer one request.  Exporting a volume is one
request, and takes a back end that has to zone a fabric its time; a shorter
one gives up what is being done, and lets recover find out.
"""
        ),
    ),
    cfg.FloatOpt(
        'cinder_extend_timeout',
        default=600.0,
        min=1.0,
        help=prose(
            """
Seconds that Cinder may take to extend a volume.  Afterwards it is not waited
for any more, and goes on all the same: extending the volume once more waits
again, and lets the guests see the new size.
"""
        ),
    ),
    cfg.FloatOpt(
        'cinder_share_timeout',
        default=60.0,
        min=0.0,
        help=prose(
            """
Seconds that a volume that several guests may have is waited for while Cinder
attaches it to another one, detaches it from it, or extends it.  Afterwards the
volume is busy, and the operation has to be started again.
"""
        ),
    ),
    cfg.BoolOpt(
        'cinder_instance',
        default=True,
        help=prose(
            """
Name the guest's UUID as the instance of an attachment, as Nova does.  Cinder
then shows it, and tells Nova when the volume grows.  But it lets only a user
with the service role take such an attachment away (bug 2004555): configure
group [service_user], or set this to false where there is no Nova.
"""
        ),
    ),
)
