//! A DynamoDB in this process, served over loopback HTTP: the functions reach it with the same SDK calls as in AWS.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, anyhow};
use aws_sdk_dynamodb::Client;
use dynoxide::Database;
use hot_products::store::{self, CallLimits};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    serve::listen,
    tables::{create, local_credentials, local_region},
    template::{self, DEFAULT_STACK, TEMPLATE, TableNames},
};

/// An embedded DynamoDB with the tables of the stack [`DEFAULT_STACK`]. It stops when dropped.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), String>>,
}

impl Embedded {
    /// Starts on `port` of 127.0.0.1, 0 for any free port. Keeps the data in the folder `data`, or in memory if that is
    /// `None`.
    ///
    /// # Errors
    /// When the port is taken, the folder can't be used, or a table can't be created.
    pub async fn start(port: u16, data: Option<&Path>) -> Result<Self> {
        let database = match data {
            None => Database::memory().map_err(|error| anyhow!("{error}"))?,
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("can't create the data folder {}", folder.display()))?;
                let file = folder.join("dynamodb.sqlite");
                let path = file.to_str().with_context(|| format!("{} is not a Unicode path", file.display()))?;
                Database::new(path).map_err(|error| anyhow!("can't open {path}: {error}"))?
            }
        };
        let listener = listen(port).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(dynoxide::server::serve_with_shutdown(listener, database, async {
            // Dropping the sender stops the server too.
            let _dropped = stopped.await;
        }));
        let embedded = Self { address, stop: Some(stop), server };
        let client = embedded.client();
        for table in template::tables(TEMPLATE, DEFAULT_STACK)? {
            create(&client, &table).await?;
        }
        Ok(embedded)
    }

    /// Its endpoint URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The names of its tables.
    pub fn tables(&self) -> TableNames {
        TableNames::of(DEFAULT_STACK)
    }

    /// A new client for it, with its own connections.
    pub fn client(&self) -> Client {
        store::client(local_region(), local_credentials(), Some(self.endpoint()), &CallLimits::default())
    }

    /// Stops when the requests in progress have ended.
    ///
    /// # Errors
    /// When the server failed.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stop.take());
        self.server.await?.map_err(|error| anyhow!(error))
    }
}
