//! A DynamoDB within this process: served over loopback HTTP, so that the same SDK calls reach it as in AWS.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, anyhow};
use aws_sdk_dynamodb::Client;
use dynoxide::Database;
use hot_products::store::{self, CallLimits};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    tables::{create, local_credentials, local_region},
    template::{self, DEFAULT_STACK, TEMPLATE},
};

/// The embedded DynamoDB, with the tables created. It stops when dropped.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), String>>,
}

impl Embedded {
    /// Starts it on `port` of the loopback address, 0 for any, with its data in memory or, where it is given, in the
    /// folder `data`.
    pub async fn start(port: u16, data: Option<&Path>) -> Result<Self> {
        let database = match data {
            None => Database::memory().map_err(|error| anyhow!("{error}"))?,
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("can't make the data folder {}", folder.display()))?;
                let file = folder.join("dynamodb.sqlite");
                let path = file.to_str().with_context(|| format!("{} is no Unicode path", file.display()))?;
                Database::new(path).map_err(|error| anyhow!("can't open {path}: {error}"))?
            }
        };
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .with_context(|| format!("can't listen on port {port} of 127.0.0.1"))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(dynoxide::server::serve_with_shutdown(listener, database, async {
            // Dropping the sender stops the server like sending does.
            let _dropped = stopped.await;
        }));
        let embedded = Self { address, stop: Some(stop), server };
        let client = embedded.client();
        for table in template::tables(TEMPLATE, DEFAULT_STACK)? {
            create(&client, &table).await?;
        }
        Ok(embedded)
    }

    /// Where it is served.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new client for it, with connections of its own.
    pub fn client(&self) -> Client {
        store::client(local_region(), local_credentials(), Some(self.endpoint()), &CallLimits::default())
    }

    /// Lets requests under way end, and stops.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stop.take());
        self.server.await?.map_err(|error| anyhow!(error))
    }
}
