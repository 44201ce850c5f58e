//! The OpenAPI document. Paths and types come from the handlers; what all of them share stands here.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::Response;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, Info, OpenApi, Paths, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Problem;

const TOKEN: &str = "token";

const DESCRIPTION: &str = "\
Reads and changes what Cordon locks. Every request needs a token (`Authorization: Bearer TOKEN`), which \
`cordon token create NAME --role ROLE` makes. A *viewer* reads everything; an *operator* also locks for abuse, lifts \
whatever is not for non-payment, and exempts; *billing* reads locks, and locks and lifts for non-payment only; an *admin* may \
do everything here. What is answered is on disk and in force. Errors are problems as RFC 9457 has them.";

/// The document without routes.
pub(super) fn head() -> OpenApi {
    let mut info = Info::new("Cordon", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    OpenApi::new(info, Paths::new())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [("get", get), ("put", put), ("post", post), ("delete", delete), ("patch", patch)];
    all.into_iter().filter_map(|(method, o)| Some((method, o.as_mut()?)))
}

/// A name for an operation, such as `get_locks_id`: generators of clients make functions of it.
fn name(method: &str, path: &str) -> String {
    let words = path.strip_prefix(super::BASE).unwrap_or(path).split(['/', '{', '}']);
    let words = words.filter(|w| !w.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

/// The document as it is served.
pub(super) fn text(mut document: OpenApi) -> String {
    let components = document.components.get_or_insert_with(Components::new);
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.security_schemes.insert(TOKEN.to_owned(), scheme);
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
    let refusal: Response = ResponseBuilder::new()
        .description("It was not done: what is wrong, and what to do")
        .content("application/problem+json", content)
        .build();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(name(method, path));
            operation.security = Some(vec![SecurityRequirement::new::<_, _, &str>(TOKEN, [])]);
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(r) = response
                    && r.description.is_empty()
                {
                    r.description = operation.summary.clone().unwrap_or_default();
                }
            }
            operation.responses.responses.insert("default".to_owned(), refusal.clone().into());
        }
    }
    // Values of our own types always can be written.
    document.to_json().unwrap_or_default()
}
