"""Where workers on several machines share finished stages. None of it enters a stage's key."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import NotInKey, Section


class StoreSettings(Section):
    """Finished stages on storage that several machines share (docs/scale.md)."""

    uri: Annotated[str, NotInKey()] = ""
    """`s3://bucket/folder`, `gs://…`, `az://…` or `file:///folder`; empty: stages stay in `.posttrain/stages/` of this checkout.
    What another worker has made is fetched and not made again; what is made here is put there. Needs the extra `store`; keys and
    endpoint by the provider's own environment variables, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL."""
    lease_seconds: Annotated[float, Field(ge=1.0), NotInKey()] = 60.0
    """Seconds without a sign of life after which a worker that makes a stage counts as gone, so that another one makes it. A sign
    comes three times as often."""
