//! REST catalogs: Iceberg's protocol over HTTP, as far as a job needs it. A table is loaded, made, and changed under
//! the conditions that the protocol has for that.
//!
//! Files are read and written with this program's own credentials: those that a server hands out are not used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::lake::catalog::{Name, Settings};
use crate::lake::iceberg::changes::{Change, Found, NewTable, Outcome};
use crate::lake::iceberg::metadata;
use crate::lake::objects;
use crate::process::secrets::hide;

/// How often something that changes nothing is asked for.
const TRIES: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes.
const LARGEST: usize = 1 << 30;

/// A server, as it wants to be asked.
struct Server {
    settings: Settings,
    client: reqwest::Client,
    /// `https://host/path/v1`, with the server's prefix.
    base: String,
    /// The token that is sent; another one after the server has refused it.
    token: Mutex<Option<String>>,
}

/// What a server answered.
struct Answer {
    status: u16,
    text: String,
}

/// What the catalog says of the table; none where it has none.
pub fn load(settings: &Settings, name: &Name) -> Result<Option<Found>> {
    let server = server(settings)?;
    let answer = server.get(&server.table(name))?;
    match answer.status {
        200 => {
            let body = answer.json(settings)?;
            let at = body["metadata-location"].as_str().unwrap_or_default().to_string();
            let content = match &body["metadata"] {
                Value::Null => metadata::read(&metadata::parse(&at)?)?,
                content => content.clone(),
            };
            Ok(Some(Found { at, content }))
        }
        404 => Ok(None),
        _ => Err(answer.refused(settings, "the table cannot be loaded")),
    }
}

/// Makes a table, and its namespace where there is none; one that is there stays as it is.
pub fn create(settings: &Settings, name: &Name, new: &NewTable) -> Result<()> {
    let server = server(settings)?;
    let body = json!({"name": name.table, "location": new.location, "schema": new.schema, "partition-spec": new.spec,
        "stage-create": false, "properties": {"format-version": "2"}});
    let tables = format!("{}/namespaces/{}/tables", server.base, namespace(name));
    let mut answer = server.ask(&tables, Some(&body))?;
    if answer.status == 404 {
        let made = json!({"namespace": name.namespace, "properties": {}});
        let made = server.ask(&format!("{}/namespaces", server.base), Some(&made))?;
        if !matches!(made.status, 200 | 409) {
            return Err(made.refused(settings, "the namespace cannot be made"));
        }
        answer = server.ask(&tables, Some(&body))?;
    }
    match answer.status {
        // an answer that was lost says so of our own table
        200 | 409 => Ok(()),
        // whoever loads it next sees whether it is there
        500.. => {
            Err(Error::new(Kind::TryAgain, answer.said("the table may have been made")).file(uri(settings)))
        }
        _ => Err(answer.refused(settings, "the table cannot be made")),
    }
}

/// Changes a table under conditions. An answer that does not come, or tells of a fault of the server or of one
/// before it, leaves open whether it did.
pub fn commit(settings: &Settings, name: &Name, change: &Change) -> Result<Outcome> {
    let server = server(settings)?;
    let body = json!({"identifier": {"namespace": name.namespace, "name": name.table},
        "requirements": change.requirements, "updates": change.updates});
    let answer = match server.ask(&server.table(name), Some(&body)) {
        Ok(answer) => answer,
        Err(e) if e.kind() == Kind::TryAgain => return Ok(Outcome::Unknown(e)),
        Err(e) => return Err(e),
    };
    match answer.status {
        200 | 204 => Ok(Outcome::Done),
        409 => Ok(Outcome::Lost),
        500.. => {
            let error = Error::new(Kind::TryAgain, answer.said("the commit may have landed"));
            Ok(Outcome::Unknown(error.file(uri(settings))))
        }
        _ => Err(answer.refused(settings, "the table cannot be changed")),
    }
}

/// The server of a catalog; what it says of itself is asked for once.
fn server(settings: &Settings) -> Result<Arc<Server>> {
    static SERVERS: OnceLock<Mutex<BTreeMap<String, Arc<Server>>>> = OnceLock::new();
    let mut servers = SERVERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let key = format!("{} {}", settings.uri, settings.warehouse.as_deref().unwrap_or_default());
    if let Some(server) = servers.get(&key) {
        return Ok(server.clone());
    }
    let server = Arc::new(Server::open(settings)?);
    servers.insert(key, server.clone());
    Ok(server)
}

impl Server {
    fn open(settings: &Settings) -> Result<Server> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("coldstart/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Error::config(format!("no HTTP client: {e}")).file(uri(settings)))?;
        let root = settings.uri.trim_end_matches('/').to_string();
        let token = Mutex::new(settings.token.clone());
        let mut server = Server { settings: settings.clone(), client, base: root.clone(), token };
        let warehouse = settings.warehouse.iter().map(|w| format!("?warehouse={}", encoded(w))).next();
        let answer = server.get(&format!("{root}/v1/config{}", warehouse.unwrap_or_default()))?;
        let said = match answer.status {
            200 => answer.json(settings)?,
            _ => return Err(answer.refused(settings, "the catalog does not say how it is asked")),
        };
        let of = |key: &str| said["overrides"][key].as_str().or(said["defaults"][key].as_str());
        let root = of("uri").unwrap_or(&root).trim_end_matches('/').to_string();
        let prefix = of("prefix").map(|p| format!("/{}", p.trim_matches('/'))).unwrap_or_default();
        server.base = format!("{root}/v1{prefix}");
        Ok(server)
    }

    fn table(&self, name: &Name) -> String {
        format!("{}/namespaces/{}/tables/{}", self.base, namespace(name), encoded(&name.table))
    }

    /// Asks for what can be asked for again.
    fn get(&self, url: &str) -> Result<Answer> {
        let mut wait = Duration::from_millis(200);
        for tried in 1.. {
            match self.ask(url, None) {
                Ok(answer) if tried < TRIES && (answer.status >= 500 || answer.status == 429) => {}
                Err(e) if tried < TRIES && e.kind() == Kind::TryAgain => {}
                other => return other,
            }
            std::thread::sleep(wait);
            wait *= 4;
        }
        Err(Error::bug("no answer was awaited"))
    }

    /// Sends a body, or asks without one; once more with another token where the first has run out.
    fn ask(&self, url: &str, body: Option<&Value>) -> Result<Answer> {
        let token = self.token(false)?;
        let answer = self.send(url, body.map(Value::to_string), "application/json", token)?;
        if !matches!(answer.status, 401 | 419) || self.settings.credential.is_none() {
            return Ok(answer);
        }
        let token = self.token(true)?;
        self.send(url, body.map(Value::to_string), "application/json", token)
    }

    fn send(&self, url: &str, body: Option<String>, kind: &str, token: Option<String>) -> Result<Answer> {
        let mut request = match body {
            Some(text) => self.client.post(url).header("Content-Type", kind).body(text),
            None => self.client.get(url),
        };
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answered = objects::waited(async {
            let mut answer = request.send().await?;
            let (status, mut text) = (answer.status().as_u16(), Vec::new());
            while let Some(piece) = answer.chunk().await?.filter(|_| text.len() < LARGEST) {
                text.extend(piece);
            }
            Ok::<_, reqwest::Error>(Answer { status, text: String::from_utf8_lossy(&text).into_owned() })
        })?;
        answered.map_err(|e| {
            let kind = if e.is_builder() { Kind::Config } else { Kind::TryAgain };
            // the URI is told beside it, without what a query may hold
            let reasons = std::iter::successors(std::error::Error::source(&e), |e| e.source());
            let why: Vec<String> = reasons.map(ToString::to_string).collect();
            let error = Error::new(kind, format!("the catalog does not answer: {}", why.join(": ")));
            error.file(uri(&self.settings))
        })
    }

    /// The token that is sent: the user's, or one that the server gives for the user's credential.
    fn token(&self, another: bool) -> Result<Option<String>> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(credential) = self.settings.credential.as_ref().filter(|_| another || token.is_none())
        else {
            return Ok(token.clone());
        };
        let (id, secret) = credential.split_once(':').unwrap_or(("", credential));
        let own = format!("{}/v1/oauth/tokens", self.settings.uri.trim_end_matches('/'));
        let url = self.settings.oauth2_server_uri.as_ref().unwrap_or(&own);
        let mut form = format!(
            "grant_type=client_credentials&scope={}&client_secret={}",
            encoded(self.settings.scope.as_deref().unwrap_or("catalog")),
            encoded(secret)
        );
        if !id.is_empty() {
            form.push_str(&format!("&client_id={}", encoded(id)));
        }
        let answer = self.send(url, Some(form), "application/x-www-form-urlencoded", None)?;
        let given = match answer.status {
            200 => answer.json(&self.settings)?["access_token"].as_str().map(str::to_string),
            _ => return Err(answer.refused(&self.settings, "the catalog gives no token")),
        };
        given.iter().for_each(|token| hide("a catalog's token", token));
        *token = given;
        Ok(token.clone())
    }
}

impl Answer {
    fn json(&self, settings: &Settings) -> Result<Value> {
        serde_json::from_str(&self.text)
            .map_err(|e| Error::data(format!("the catalog's answer is no JSON: {e}")).file(uri(settings)))
    }

    /// The status, and what the server says of it.
    fn said(&self, what: &str) -> String {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let message = body["error"]["message"].as_str().unwrap_or_default();
        let short: String = message.chars().take(300).collect();
        format!("{what}: the catalog answers {} {short}", self.status).trim_end().to_string()
    }

    fn refused(&self, settings: &Settings, what: &str) -> Error {
        let kind = match self.status {
            401 | 403 | 419 => Kind::CannotCreate,
            404 => Kind::Missing,
            429 | 500.. => Kind::TryAgain,
            _ => Kind::Data,
        };
        Error::new(kind, self.said(what)).file(uri(settings))
    }
}

fn uri(settings: &Settings) -> &std::path::Path {
    std::path::Path::new(&settings.uri)
}

/// The levels of a namespace, as a part of a URL.
fn namespace(name: &Name) -> String {
    encoded(&name.namespace.join("\u{1f}"))
}

/// A text as a part of a URL.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
