"""Every error that Orchestra raises, in one tree.

    OrchestraError
      ConfigError                 a setting or an address that cannot be used
      UsageError                  an argument that cannot be used
      DaemonFault                 the daemon, or the way to it
        DaemonUnreachable  DaemonDisconnected  NotOllama  RedirectRefused  AuthFailed
        DaemonBusy  DaemonError  LoadFailed  DaemonTooOld
      ModelFault                  the model that was named
        NoModel  ModelMissing  ModelUnsupported  PromptTooLong  PullFailed
      ReplyFault                  an answer that began and did not end well; `.reply` is what came
        StreamTruncated  Interrupted  StreamCorrupt  LineTooLong  ReplyTooLarge  EmptyReply
        FirstTokenTimeout  StreamStalled  SchemaMismatch
      StoreFault                  the folder and the file of the sessions
        StoreBusy  StoreCorrupt  StoreTooNew  StorageFull  StoreUnwritable
        SessionMissing  SessionExists  SessionBusy  ImportInvalid
      PersonaFault
        PersonaMissing  PersonaInvalid  SeedTooLong  ModelNotOurs
      SearchFault                 a search service, or the way to it
        SearchUnreachable  RateLimited  KeyRefused  BadResponse
      PageFault                   a web page that was not read
        BlockedAddress  SchemeRefused  TypeRefused  ExtractTimeout
      KnowledgeFault              local documents and their index
        KnowledgeMissing  DocumentUnreadable  EmbeddingChanged  EmbeddingFailed
      EndpointFault               an OpenAI-compatible endpoint that cannot be measured
      ExtraMissing                a part that is not installed
      GatewayFault                a request over HTTP that is not served
        BodyInvalid  BodyTooLarge  MediaTypeRefused  FieldInvalid  TokenRefused
        HostRefused  OriginRefused  AgentRecursion  RouteMissing  MethodRefused
        Overloaded  HeadersTooLarge  RequestInvalid  RequestTooSlow  UserRefused
        ManagementRefused
      PortTaken                   somebody listens where we want to
      OutputLost                  the answer cannot be written where it was sent
      StandInFault                the stand-in daemon's script does not fit what was asked

Each has a `status` (for HTTP), an `exit_code` of its own (for the shell), a message that says what
happened and a hint that says what to do, both in English and Chinese.
"""

from __future__ import annotations

from orchestra.errors.daemon import (
    AuthFailed,
    DaemonBusy,
    DaemonDisconnected,
    DaemonError,
    DaemonFault,
    DaemonTooOld,
    DaemonUnreachable,
    LoadFailed,
    NotOllama,
    RedirectRefused,
)
from orchestra.errors.endpoint import EndpointFault
from orchestra.errors.gateway import (
    AgentRecursion,
    BodyInvalid,
    BodyTooLarge,
    FieldInvalid,
    GatewayFault,
    HeadersTooLarge,
    HostRefused,
    ManagementRefused,
    MediaTypeRefused,
    MethodRefused,
    OriginRefused,
    Overloaded,
    RequestInvalid,
    RequestTooSlow,
    RouteMissing,
    TokenRefused,
    UserRefused,
)
from orchestra.errors.model import (
    ModelFault,
    ModelMissing,
    ModelUnsupported,
    NoModel,
    PromptTooLong,
    PullFailed,
)
from orchestra.errors.parts import (
    ExtraMissing,
    ModelNotOurs,
    OutputLost,
    PersonaFault,
    PersonaInvalid,
    PersonaMissing,
    PortTaken,
    SeedTooLong,
    StandInFault,
)
from orchestra.errors.reply import (
    EmptyReply,
    FirstTokenTimeout,
    Interrupted,
    LineTooLong,
    ReplyFault,
    ReplyTooLarge,
    SchemaMismatch,
    StreamCorrupt,
    StreamStalled,
    StreamTruncated,
)
from orchestra.errors.root import (
    ConfigError,
    OrchestraError,
    UsageError,
)
from orchestra.errors.search import (
    BadResponse,
    BlockedAddress,
    DocumentUnreadable,
    EmbeddingChanged,
    EmbeddingFailed,
    ExtractTimeout,
    KeyRefused,
    KnowledgeFault,
    KnowledgeMissing,
    PageFault,
    RateLimited,
    SchemeRefused,
    SearchFault,
    SearchUnreachable,
    TypeRefused,
)
from orchestra.errors.store import (
    ImportInvalid,
    SessionBusy,
    SessionExists,
    SessionMissing,
    StorageFull,
    StoreBusy,
    StoreCorrupt,
    StoreFault,
    StoreTooNew,
    StoreUnwritable,
)

__all__ = [
    "AgentRecursion",
    "AuthFailed",
    "BadResponse",
    "BlockedAddress",
    "BodyInvalid",
    "BodyTooLarge",
    "ConfigError",
    "DaemonBusy",
    "DaemonDisconnected",
    "DaemonError",
    "DaemonFault",
    "DaemonTooOld",
    "DaemonUnreachable",
    "DocumentUnreadable",
    "EmbeddingChanged",
    "EmbeddingFailed",
    "EmptyReply",
    "EndpointFault",
    "ExtraMissing",
    "ExtractTimeout",
    "FieldInvalid",
    "FirstTokenTimeout",
    "GatewayFault",
    "HeadersTooLarge",
    "HostRefused",
    "ImportInvalid",
    "Interrupted",
    "KeyRefused",
    "KnowledgeFault",
    "KnowledgeMissing",
    "LineTooLong",
    "LoadFailed",
    "ManagementRefused",
    "MediaTypeRefused",
    "MethodRefused",
    "ModelFault",
    "ModelMissing",
    "ModelNotOurs",
    "ModelUnsupported",
    "NoModel",
    "NotOllama",
    "OrchestraError",
    "OriginRefused",
    "OutputLost",
    "Overloaded",
    "PageFault",
    "PersonaFault",
    "PersonaInvalid",
    "PersonaMissing",
    "PortTaken",
    "PromptTooLong",
    "PullFailed",
    "RateLimited",
    "RedirectRefused",
    "ReplyFault",
    "ReplyTooLarge",
    "RequestInvalid",
    "RequestTooSlow",
    "RouteMissing",
    "SchemaMismatch",
    "SchemeRefused",
    "SearchFault",
    "SearchUnreachable",
    "SeedTooLong",
    "SessionBusy",
    "SessionExists",
    "SessionMissing",
    "StandInFault",
    "StorageFull",
    "StoreBusy",
    "StoreCorrupt",
    "StoreFault",
    "StoreTooNew",
    "StoreUnwritable",
    "StreamCorrupt",
    "StreamStalled",
    "StreamTruncated",
    "TokenRefused",
    "TypeRefused",
    "UsageError",
    "UserRefused",
    "every_error",
]


def every_error() -> list[type[OrchestraError]]:
    """All classes of the tree, the root first; for the documentation and its test."""
    found: list[type[OrchestraError]] = [OrchestraError]
    for error in found:
        found.extend(error.__subclasses__())
    return found
