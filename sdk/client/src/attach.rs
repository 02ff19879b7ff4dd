//! The standard streams of runs: for users who hold them, and for nodes that have the runs.

use std::{fmt, io};

use bytes::Bytes;
use futures::Stream;
use gilliam_model::{
    name::{AppName, NodeName},
    run::{Frames, RunId, RunStream},
};
use reqwest::{Body, Method, Response, header};

use crate::{Client, ClientError};

const BYTES: &str = "application/octet-stream";

/// What a run prints, as it prints it.
pub struct RunOutput {
    client: Client,
    response: Response,
    frames: Frames,
}

impl fmt::Debug for RunOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOutput")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl RunOutput {
    /// What it printed next, to which stream; none once it has ended. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<(RunStream, Bytes)>, ClientError> {
        loop {
            let frame = self.frames.take();
            let frame = frame.map_err(|error| self.client.protocol(error.to_string()))?;
            if let Some((stream, bytes)) = frame {
                return Ok(Some((stream, Bytes::copy_from_slice(bytes))));
            }
            match self
                .response
                .chunk()
                .await
                .map_err(|source| self.client.broken(source))?
            {
                Some(chunk) => self.frames.push(&chunk),
                None if self.frames.is_whole() => return Ok(None),
                None => {
                    let url = self.client.base_url().to_string();
                    return Err(ClientError::Interrupted { url, source: None });
                }
            }
        }
    }
}

/// The standard input of a run, as it was sent.
pub struct RunInput {
    client: Client,
    response: Response,
}

impl fmt::Debug for RunInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunInput")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl RunInput {
    /// What comes next; none at its end. An error says that it was cut off. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|source| self.client.broken(source))
    }
}

impl Client {
    /// Sends the standard input of a run that was asked for with `attach`, until it ends.
    pub async fn send_run_input(
        &self,
        app: &AppName,
        number: u32,
        input: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), ClientError> {
        let call = self.request(Method::POST, &format!("/v1/apps/{app}/runs/{number}/stdin"));
        let call = call
            .header(header::CONTENT_TYPE, BYTES)
            .body(Body::wrap_stream(input));
        self.answer(call).await.map(drop)
    }

    /// Takes what a run prints that was asked for with `attach`.
    pub async fn run_output(&self, app: &AppName, number: u32) -> Result<RunOutput, ClientError> {
        let call = self.request(Method::GET, &format!("/v1/apps/{app}/runs/{number}/output"));
        Ok(RunOutput {
            client: self.clone(),
            response: self.answer(call).await?,
            frames: Frames::default(),
        })
    }

    /// Takes, for a run that a node has, what is sent to it by way of the control plane of this name.
    pub async fn run_input(
        &self,
        node: &NodeName,
        run: &RunId,
        control: &str,
    ) -> Result<RunInput, ClientError> {
        let call = self.request(Method::GET, &of_node(node, run, "input"));
        let call = call.query(&[("control", control)]);
        Ok(RunInput {
            client: self.clone(),
            response: self.answer(call).await?,
        })
    }

    /// Sends what a run of a node prints, as frames, by way of the control plane of this name; returns when that is
    /// over, or nobody takes it any more.
    pub async fn send_run_output(
        &self,
        node: &NodeName,
        run: &RunId,
        control: &str,
        output: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), ClientError> {
        let call = self.request(Method::POST, &of_node(node, run, "output"));
        let call = call
            .query(&[("control", control)])
            .header(header::CONTENT_TYPE, BYTES);
        self.answer(call.body(Body::wrap_stream(output))).await.map(drop)
    }
}

fn of_node(node: &NodeName, run: &RunId, what: &str) -> String {
    format!("/v1/nodes/{node}/runs/{}/{}/{what}", run.app, run.number)
}
