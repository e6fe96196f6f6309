//! gRPC: protobuf to domain and back, with every violation named.

use std::{str::FromStr, time::SystemTime};

use proto::notification::v1 as pb;
use service::{
    page,
    status::{Reason, Violations, status},
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use crate::{
    app,
    domain::{Channel, CustomerId, Invalid, Webhook, WebhookSecret},
    store::{Filter, Notification},
};

/// The server side of `orderly.notification.v1.NotificationService`.
#[derive(Clone, Debug)]
pub struct Api {
    /// The service's database.
    pub pool: PgPool,
}

#[tonic::async_trait]
impl pb::notification_service_server::NotificationService for Api {
    async fn list_notifications(
        &self,
        request: Request<pb::ListNotificationsRequest>,
    ) -> Result<Response<pb::ListNotificationsResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::default();
        let mut filter = Filter::default();
        if !request.order_id.is_empty() {
            filter.order_id = Some(violations.uuid("order_id", &request.order_id));
        }
        if !request.customer_id.is_empty() {
            filter.customer_id = parse("customer_id", &request.customer_id, &mut violations);
        }
        let size = page::size(&mut violations, request.page_size);
        let before = page::after(&mut violations, &request.page_token, &filter);
        violations.into_result()?;
        let mut rows = app::list(&self.pool, &filter, before, size + 1).await?;
        let next_page_token = page::cut(&mut rows, size, &filter, |row| row.notification_id);
        let notifications = rows.into_iter().map(notification).collect();
        Ok(Response::new(pb::ListNotificationsResponse { notifications, next_page_token }))
    }

    async fn get_settings(
        &self,
        request: Request<pb::GetSettingsRequest>,
    ) -> Result<Response<pb::GetSettingsResponse>, Status> {
        let mut violations = Violations::default();
        let customer_id = parse("customer_id", &request.into_inner().customer_id, &mut violations);
        let customer_id = valid(customer_id, violations)?;
        let channel = app::settings(&self.pool, &customer_id).await?;
        Ok(Response::new(pb::GetSettingsResponse { settings: Some(settings(&customer_id, &channel)) }))
    }

    async fn update_settings(
        &self,
        request: Request<pb::UpdateSettingsRequest>,
    ) -> Result<Response<pb::UpdateSettingsResponse>, Status> {
        let asked = request.into_inner().settings.unwrap_or_default();
        let mut violations = Violations::default();
        let customer_id = parse("settings.customer_id", &asked.customer_id, &mut violations);
        let channel = channel(&asked, &mut violations);
        let (customer_id, channel) = valid(customer_id.zip(channel), violations)?;
        app::update_settings(&self.pool, &customer_id, &channel).await?;
        let mut settings = settings(&customer_id, &channel);
        if let (Channel::Webhook(Webhook { secret, .. }), "") = (&channel, &*asked.webhook_secret) {
            // It was made here, and this is the only time that anybody is told.
            settings.webhook_secret = secret.expose().to_owned();
        }
        Ok(Response::new(pb::UpdateSettingsResponse { settings: Some(settings) }))
    }
}

/// The value of a field; a violation where it breaks its rule.
fn parse<T: FromStr<Err = Invalid>>(field: &str, value: &str, violations: &mut Violations) -> Option<T> {
    value.parse().map_err(|why: Invalid| violations.add(field, why.to_string())).ok()
}

/// The value, unless there are violations; what has no value has one.
fn valid<T>(value: Option<T>, violations: Violations) -> Result<T, Status> {
    violations.into_result()?;
    value.ok_or_else(|| status(Reason::Internal, "a fault of the service: a wrong field was not named"))
}

/// What the settings choose. A field that the channel has no use for must be empty.
fn channel(settings: &pb::Settings, violations: &mut Violations) -> Option<Channel> {
    const EMAIL: &str = "settings.email_address";
    const URL: &str = "settings.webhook_url";
    const SECRET: &str = "settings.webhook_secret";
    let pb::Settings { email_address, webhook_url, webhook_secret, .. } = settings;
    let empty = |fields: &[(&str, &String)], violations: &mut Violations| {
        let filled = fields.iter().filter(|(_, value)| !value.is_empty());
        filled.map(|(field, _)| violations.add(*field, "must be empty for this channel")).count() == 0
    };
    match pb::Channel::try_from(settings.channel) {
        Ok(pb::Channel::Log) => {
            let fields = [(EMAIL, email_address), (URL, webhook_url), (SECRET, webhook_secret)];
            empty(&fields, violations).then_some(Channel::Log)
        }
        Ok(pb::Channel::Email) => {
            let address = parse(EMAIL, email_address, violations);
            let empty = empty(&[(URL, webhook_url), (SECRET, webhook_secret)], violations);
            address.filter(|_| empty).map(Channel::Email)
        }
        Ok(pb::Channel::Webhook) => {
            let empty = empty(&[(EMAIL, email_address)], violations);
            let url = parse(URL, webhook_url, violations);
            let secret = if webhook_secret.is_empty() {
                Some(WebhookSecret::of(rand::random()))
            } else {
                parse(SECRET, webhook_secret, violations)
            };
            let webhook = url.zip(secret).map(|(url, secret)| Webhook { url, secret });
            webhook.filter(|_| empty).map(Channel::Webhook)
        }
        Ok(pb::Channel::Unspecified) | Err(_) => {
            violations.add("settings.channel", "must be CHANNEL_LOG, CHANNEL_EMAIL or CHANNEL_WEBHOOK");
            None
        }
    }
}

/// As they are told: without the secret.
fn settings(customer_id: &CustomerId, channel: &Channel) -> pb::Settings {
    let known = match channel {
        Channel::Log => pb::Channel::Log,
        Channel::Email(_) => pb::Channel::Email,
        Channel::Webhook(_) => pb::Channel::Webhook,
    };
    let columns = channel.columns();
    pb::Settings {
        customer_id: customer_id.as_ref().to_owned(),
        channel: known.into(),
        email_address: columns.email_address.unwrap_or_default().to_owned(),
        webhook_url: columns.webhook_url.unwrap_or_default().to_owned(),
        webhook_secret: String::new(),
    }
}

fn notification(row: Notification) -> pb::Notification {
    // The prost names are the rows' names with their enum's prefix; the database's constraints allow no others.
    let kind = pb::NotificationKind::from_str_name(&format!("NOTIFICATION_KIND_{}", row.kind));
    let channel = pb::Channel::from_str_name(&format!("CHANNEL_{}", row.channel));
    let state = pb::NotificationStatus::from_str_name(&format!("NOTIFICATION_STATUS_{}", row.status));
    pb::Notification {
        notification_id: row.notification_id.to_string(),
        order_id: row.order_id.to_string(),
        customer_id: row.customer_id,
        kind: kind.unwrap_or_default().into(),
        channel: channel.unwrap_or_default().into(),
        status: state.unwrap_or_default().into(),
        subject: row.subject,
        body: row.body,
        attempts: row.attempts,
        create_time: Some(timestamp(row.created_at)),
        deliver_time: row.delivered_at.map(timestamp),
    }
}

fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    SystemTime::from(time).into()
}
