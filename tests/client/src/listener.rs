//! A connection that LISTENs.

use anyhow::{Context, Result};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Notification};

pub struct Listener {
    client: Client,
    channel: String,
    notifications: UnboundedReceiver<Notification>,
}

impl Listener {
    pub async fn connect(config: &Config, channel: &str) -> Result<Self> {
        let (client, mut connection) = config.connect(NoTls).await?;
        let (sender, notifications) = unbounded_channel();
        tokio::spawn(async move {
            // Ends with the connection, or when nobody wants to hear more.
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message
                    && sender.send(notification).is_err()
                {
                    break;
                }
            }
        });
        client.batch_execute(&format!("LISTEN \"{channel}\"")).await?;
        Ok(Self { client, channel: channel.to_string(), notifications })
    }

    /// The next one, whenever it comes.
    pub async fn next(&mut self) -> Result<Notification> {
        self.notifications.recv().await.context("the connection is gone")
    }

    /// The payloads of all transactions that committed before this call. Postgres delivers them in the order of commit, so
    /// they are what comes before a word of our own.
    pub async fn heard(&mut self) -> Result<Vec<String>> {
        const END: &str = "the end";
        self.client.execute("SELECT pg_notify($1, $2)", &[&self.channel, &END]).await?;
        let mut payloads = Vec::new();
        loop {
            let notification = self.next().await?;
            assert_eq!(notification.channel(), self.channel);
            match notification.payload() {
                END => return Ok(payloads),
                payload => payloads.push(payload.to_string()),
            }
        }
    }
}
