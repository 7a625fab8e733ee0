"""The part of the Control service that is about log-ins to outside registries.  It owns no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from swarmd.control.logins import Logins
from swarmd.model.errors import SwarmError
from swarmd.model.registry import RegistryCredential
from swarmd.rpc import errors
from swarmd.rpc.v1 import control_pb2 as pb

# gRPC method names are the protocol's.
# ruff: noqa: N802


class Cases(Protocol):
    """The part of the use cases that is about log-ins."""

    @property
    def logins(self) -> Logins: ...


class LoginCalls:
    """Translates; the use cases of the manager that this node is now act."""

    _login_cases: Callable[[], Cases]

    async def SaveRegistryLogin(
        self, request: pb.SaveRegistryLoginRequest, context: Any
    ) -> pb.SaveRegistryLoginResponse:
        row = RegistryCredential(
            id=request.host,
            username=request.login.username,
            password=request.login.password,
            identity_token=request.login.identity_token,
        )
        try:
            await self._login_cases().logins.save(row)
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.SaveRegistryLoginResponse()

    async def ListRegistryLogins(
        self, request: pb.ListRegistryLoginsRequest, context: Any
    ) -> pb.ListRegistryLoginsResponse:
        try:
            rows = self._login_cases().logins.all()
        except SwarmError as error:
            await errors.abort(context, error)
        views = [
            pb.RegistryLoginView(host=row.id, username=row.username, updated_at=row.updated_at)
            for row in rows
        ]
        return pb.ListRegistryLoginsResponse(logins=views)

    async def RemoveRegistryLogin(
        self, request: pb.RemoveRegistryLoginRequest, context: Any
    ) -> pb.RemoveRegistryLoginResponse:
        try:
            await self._login_cases().logins.remove(request.host)
        except SwarmError as error:
            await errors.abort(context, error)
        return pb.RemoveRegistryLoginResponse()
