//! Against a small order service of its own: the load generator's outside world.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use proto::order::v1::{
    CancelOrderRequest, CancelOrderResponse, CreateOrderResponse, GetOrderRequest, GetOrderResponse,
    ListOrdersRequest, ListOrdersResponse, Order, ResolveOrderRequest, ResolveOrderResponse,
    WatchOrderRequest, WatchOrderResponse,
    order_service_server::{OrderService, OrderServiceServer},
};
use tokio::{net::TcpListener, sync::Mutex};
use tonic::{Request, Response};

use super::*;

#[derive(Clone, Copy)]
enum Answer {
    Order(Uuid),
    Code(Code),
    Never,
    /// The connection breaks.
    Panic,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    request_ids: Mutex<Vec<String>>,
}

struct Scripted(Arc<Script>);

#[tonic::async_trait]
impl OrderService for Scripted {
    type WatchOrderStream = tokio_stream::Empty<Result<WatchOrderResponse, Status>>;

    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<CreateOrderResponse>, Status> {
        self.0.request_ids.lock().await.push(request.into_inner().request_id);
        Ok(Response::new(CreateOrderResponse { order: Some(self.answer().await?) }))
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
        Ok(Response::new(CancelOrderResponse { order: Some(self.answer().await?) }))
    }

    async fn resolve_order(
        &self,
        _: Request<ResolveOrderRequest>,
    ) -> Result<Response<ResolveOrderResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch_order(
        &self,
        _: Request<WatchOrderRequest>,
    ) -> Result<Response<Self::WatchOrderStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

impl Scripted {
    async fn answer(&self) -> Result<Order, Status> {
        let answer = self.0.answers.lock().await.pop_front();
        match answer {
            Some(Answer::Order(id)) => Ok(Order { order_id: id.to_string(), ..Order::default() }),
            Some(Answer::Code(code)) => Err(Status::new(code, "scripted")),
            Some(Answer::Never) => std::future::pending().await,
            Some(Answer::Panic) => panic!("scripted"),
            None => Err(Status::internal("one call too many")),
        }
    }
}

async fn start(answers: &[Answer]) -> anyhow::Result<(SocketAddr, Arc<Script>)> {
    let script =
        Arc::new(Script { answers: Mutex::new(answers.iter().copied().collect()), ..Script::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = OrderServiceServer::new(Scripted(Arc::clone(&script)));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    Ok((address, script))
}

async fn place(
    address: SocketAddr,
    deadline: Duration,
    give_up: Duration,
) -> anyhow::Result<(Ended<Uuid>, Vec<Code>)> {
    let client = Client::new(&format!("http://{address}"), 2, deadline, give_up)?;
    let request =
        CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..CreateOrderRequest::default() };
    let mut codes = Vec::new();
    let placed = client.place(&request, |code| codes.push(code)).await;
    Ok((placed, codes))
}

#[tokio::test]
async fn repeats_the_same_request_id_until_the_answer_is_known() -> anyhow::Result<()> {
    let order = Uuid::now_v7();
    let answers = [Answer::Code(Code::Unavailable), Answer::Never, Answer::Panic, Answer::Order(order)];
    let (address, script) = start(&answers).await?;
    let (placed, codes) = place(address, Duration::from_millis(300), Duration::from_secs(60)).await?;
    assert_eq!(placed, Ended::Accepted(order));
    assert_eq!(codes, [Code::Unavailable, Code::DeadlineExceeded, Code::Unavailable]);
    let ids = script.request_ids.lock().await;
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| !id.is_empty() && *id == ids[0]));
    Ok(())
}

#[tokio::test]
async fn does_not_repeat_a_refusal() -> anyhow::Result<()> {
    let (address, script) = start(&[Answer::Code(Code::InvalidArgument)]).await?;
    let (placed, codes) = place(address, Duration::from_secs(30), Duration::from_secs(60)).await?;
    assert_eq!((placed, codes), (Ended::Rejected(Code::InvalidArgument), vec![Code::InvalidArgument]));
    assert_eq!(script.request_ids.lock().await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn gives_up_on_a_service_that_is_gone() -> anyhow::Result<()> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let (placed, codes) = place(address, Duration::from_secs(30), Duration::from_millis(200)).await?;
    assert_eq!(placed, Ended::GaveUp);
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == Code::Unavailable), "{codes:?}");
    Ok(())
}

#[tokio::test]
async fn cancels_until_the_answer_is_known_which_may_be_too_late() -> anyhow::Result<()> {
    let order = Uuid::now_v7();
    let unavailable = Answer::Code(Code::Unavailable);
    for (last, ended, failures) in [
        (Answer::Order(order), Ended::Accepted(()), 2),
        (Answer::Code(Code::FailedPrecondition), Ended::Rejected(Code::FailedPrecondition), 3),
    ] {
        let (address, _) = start(&[unavailable, Answer::Panic, last]).await?;
        let patience = Duration::from_secs(60);
        let client = Client::new(&format!("http://{address}"), 1, patience, patience)?;
        let mut failed = 0;
        assert_eq!(client.cancel(order, |_| failed += 1).await, ended);
        assert_eq!(failed, failures);
    }
    Ok(())
}
