//! Against a small order service that only lets orders be watched.

use std::{collections::VecDeque, pin::Pin};

use proto::order::v1::{
    CancelOrderRequest, CancelOrderResponse, CreateOrderRequest, CreateOrderResponse, GetOrderRequest,
    GetOrderResponse, ListOrdersRequest, ListOrdersResponse, OrderTransition, ResolveOrderRequest,
    ResolveOrderResponse, WatchOrderResponse,
    order_service_server::{OrderService, OrderServiceServer},
};
use testkit::until;
use tokio::{net::TcpListener, time::timeout};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response,
    transport::{Server, server::TcpIncoming},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum Then {
    Ends,
    Fails(Code),
    Stays,
}

/// What the streams tell, one after the other, and after which version each was asked.
#[derive(Default)]
struct Script {
    streams: Mutex<VecDeque<(&'static [i32], Then)>>,
    asked: Mutex<Vec<i32>>,
}

struct Scripted(Arc<Script>);

type Transitions = Pin<Box<dyn Stream<Item = Result<WatchOrderResponse, Status>> + Send>>;

#[tonic::async_trait]
impl OrderService for Scripted {
    type WatchOrderStream = Transitions;

    async fn watch_order(
        &self,
        request: Request<WatchOrderRequest>,
    ) -> Result<Response<Transitions>, Status> {
        self.0.asked.lock().unwrap().push(request.get_ref().after_version);
        let next = self.0.streams.lock().unwrap().pop_front();
        let (versions, then) = next.ok_or_else(|| Status::internal("one stream too many"))?;
        let told = tokio_stream::iter(versions).map(|version| {
            let transition = OrderTransition {
                version: *version,
                event_time: Some(prost_types::Timestamp::default()),
                ..OrderTransition::default()
            };
            Ok(WatchOrderResponse { transition: Some(transition) })
        });
        Ok(Response::new(match then {
            Then::Ends => Box::pin(told),
            Then::Fails(code) => Box::pin(told.chain(tokio_stream::once(Err(Status::new(code, "scripted"))))),
            Then::Stays => Box::pin(told.chain(tokio_stream::pending())),
        }))
    }

    async fn create_order(
        &self,
        _: Request<CreateOrderRequest>,
    ) -> Result<Response<CreateOrderResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_order(&self, _: Request<GetOrderRequest>) -> Result<Response<GetOrderResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_orders(
        &self,
        _: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_order(
        &self,
        _: Request<CancelOrderRequest>,
    ) -> Result<Response<CancelOrderResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn resolve_order(
        &self,
        _: Request<ResolveOrderRequest>,
    ) -> Result<Response<ResolveOrderResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn start(streams: &[(&'static [i32], Then)], max: usize) -> anyhow::Result<(Arc<Watch>, Arc<Script>)> {
    let script =
        Arc::new(Script { streams: Mutex::new(streams.iter().copied().collect()), ..Script::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = format!("http://{}", listener.local_addr()?);
    let service = OrderServiceServer::new(Scripted(Arc::clone(&script)));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    Ok((Arc::new(Watch::new(&target, max, PATIENCE)?), script))
}

/// Watches one order until its streams have ended; with the codes of those that failed.
async fn watch(streams: &[(&'static [i32], Then)]) -> anyhow::Result<(Arc<Watch>, Arc<Script>, Vec<Code>)> {
    let (watch, script) = start(streams, 1).await?;
    let codes = Arc::new(Mutex::new(Vec::new()));
    let failed = Arc::clone(&codes);
    watch.start(Uuid::nil(), move |code| failed.lock().unwrap().push(code));
    watch.streams.close();
    timeout(PATIENCE, watch.streams.wait()).await?;
    let codes = codes.lock().unwrap().clone();
    Ok((watch, script, codes))
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_after_what_it_has_told() -> anyhow::Result<()> {
    let breaks = Then::Fails(Code::Unavailable);
    let (watch, script, codes) = watch(&[(&[1, 2], breaks), (&[], breaks), (&[3], Then::Ends)]).await?;
    assert_eq!(*script.asked.lock().unwrap(), [0, 2, 2]);
    assert_eq!(codes, [Code::Unavailable; 2]);
    let state = watch.state();
    let seen = state.orders[0];
    assert_eq!((seen.last, seen.transitions, seen.repeated), (3, 3, 0));
    assert_eq!((seen.ending, state.resumed, state.late.len()), (Ending::Finished, 2, 3));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_refused_is_not_opened_again() -> anyhow::Result<()> {
    let refused = Code::ResourceExhausted;
    let (watch, script, codes) = watch(&[(&[], Then::Fails(refused))]).await?;
    assert_eq!(script.asked.lock().unwrap().len(), 1);
    assert_eq!(codes, [refused]);
    assert_eq!(watch.state().orders[0].ending, Ending::Failed(refused));
    Ok(())
}

#[tokio::test]
async fn only_so_many_orders_are_watched_at_once() -> anyhow::Result<()> {
    let (watch, _) = start(&[(&[1][..], Then::Stays); 2], 2).await?;
    for number in 0..3 {
        watch.start(Uuid::from_u128(number), |_| {});
    }
    until("both streams are open", PATIENCE, || async { Ok((watch.state().open == 2).then_some(())) })
        .await?;
    watch.streams.close();
    watch.close.cancel();
    timeout(PATIENCE, watch.streams.wait()).await?;
    let state = watch.state();
    assert_eq!((state.orders.len(), state.most_open), (2, 2));
    assert!(state.orders.iter().all(|seen| seen.ending == Ending::Open));
    assert_eq!((state.open, state.free.len()), (0, 2), "their places are free again");
    Ok(())
}
