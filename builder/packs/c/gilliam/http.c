/* gilliam/http.h over the bindings of wasi:http 0.2. */
#include "http.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../bindings/web.h"

/* A body up to this size is sent in one piece with its length. */
#define BUFFER_BYTES 16384

struct gilliam_request {
  const char *method;
  char *path;
  const char *query;
  wasi_http_types_list_tuple2_field_name_field_value_t headers;
  bool has_body;
  wasi_io_streams_own_input_stream_t body;
};

struct gilliam_response {
  int status;
  bool begun;
  bool broken;
  wasi_http_types_own_response_outparam_t out;
  wasi_http_types_own_fields_t headers;
  wasi_http_types_own_outgoing_body_t body;
  wasi_io_streams_own_output_stream_t stream;
  size_t buffered;
  uint8_t buffer[BUFFER_BYTES];
};

static void *take(size_t size) {
  void *memory = malloc(size);
  if (memory == NULL) abort();
  return memory;
}

static char *text(const uint8_t *bytes, size_t size) {
  char *copy = take(size + 1);
  memcpy(copy, bytes, size);
  copy[size] = 0;
  return copy;
}

static web_string_t borrowed(const char *bytes) {
  web_string_t string = {(uint8_t *)bytes, strlen(bytes)};
  return string;
}

/* The request. */

static const char *const METHODS[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};

static void open_request(gilliam_request *request, wasi_http_types_own_incoming_request_t own) {
  wasi_http_types_borrow_incoming_request_t self = wasi_http_types_borrow_incoming_request(own);
  wasi_http_types_method_t method;
  wasi_http_types_method_incoming_request_method(self, &method);
  request->method = method.tag < WASI_HTTP_TYPES_METHOD_OTHER ? METHODS[method.tag]
                                                               : text(method.val.other.ptr, method.val.other.len);
  web_string_t target;
  if (!wasi_http_types_method_incoming_request_path_with_query(self, &target)) target = borrowed("/");
  request->path = text(target.ptr, target.len);
  char *mark = strchr(request->path, '?');
  request->query = "";
  if (mark != NULL) {
    *mark = 0;
    request->query = mark + 1;
  }
  wasi_http_types_own_headers_t headers = wasi_http_types_method_incoming_request_headers(self);
  wasi_http_types_method_fields_entries(wasi_http_types_borrow_fields(headers), &request->headers);
  wasi_http_types_fields_drop_own(headers);
  wasi_http_types_own_incoming_body_t body;
  request->has_body = wasi_http_types_method_incoming_request_consume(self, &body) &&
                      wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body),
                                                                  &request->body);
}

const char *gilliam_method(gilliam_request *request) { return request->method; }
const char *gilliam_path(gilliam_request *request) { return request->path; }
const char *gilliam_query(gilliam_request *request) { return request->query; }

const char *gilliam_header(gilliam_request *request, const char *name) {
  size_t size = strlen(name);
  for (size_t i = 0; i < request->headers.len; i++) {
    web_string_t key = request->headers.ptr[i].f0;
    if (key.len == size && strncasecmp((const char *)key.ptr, name, size) == 0) {
      return text(request->headers.ptr[i].f1.ptr, request->headers.ptr[i].f1.len);
    }
  }
  return NULL;
}

long gilliam_read(gilliam_request *request, void *buffer, size_t size) {
  if (!request->has_body || size == 0) return 0;
  wasi_io_streams_borrow_input_stream_t stream = wasi_io_streams_borrow_input_stream(request->body);
  web_list_u8_t part;
  wasi_io_streams_stream_error_t error;
  do {
    if (!wasi_io_streams_method_input_stream_blocking_read(stream, size, &part, &error)) {
      return error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED ? 0 : -1;
    }
  } while (part.len == 0);
  memcpy(buffer, part.ptr, part.len);
  long count = (long)part.len;
  web_list_u8_free(&part);
  return count;
}

/* The answer. */

void gilliam_status(gilliam_response *response, int status) { response->status = status; }

int gilliam_set_header(gilliam_response *response, const char *name, const char *value) {
  if (response->begun) return -1;
  web_string_t key = borrowed(name);
  wasi_http_types_field_value_t bytes = {(uint8_t *)value, strlen(value)};
  wasi_http_types_header_error_t error;
  wasi_http_types_borrow_fields_t fields = wasi_http_types_borrow_fields(response->headers);
  return wasi_http_types_method_fields_append(fields, &key, &bytes, &error) ? 0 : -1;
}

static void begin(gilliam_response *response) {
  response->begun = true;
  wasi_http_types_own_outgoing_response_t own = wasi_http_types_constructor_outgoing_response(response->headers);
  wasi_http_types_borrow_outgoing_response_t self = wasi_http_types_borrow_outgoing_response(own);
  if (!wasi_http_types_method_outgoing_response_set_status_code(self, (uint16_t)response->status)) {
    fprintf(stderr, "gilliam_status: %d is no HTTP status\n", response->status);
    abort();
  }
  wasi_http_types_method_outgoing_response_body(self, &response->body);
  wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(response->body), &response->stream);
  wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = own};
  wasi_http_types_static_response_outparam_set(response->out, &result);
}

/* Hands bytes to the platform as it takes them. */
static int send(gilliam_response *response, const uint8_t *bytes, size_t size) {
  wasi_io_streams_borrow_output_stream_t stream = wasi_io_streams_borrow_output_stream(response->stream);
  wasi_io_streams_stream_error_t error;
  while (size > 0 && !response->broken) {
    uint64_t room;
    if (!wasi_io_streams_method_output_stream_check_write(stream, &room, &error)) {
      response->broken = true;
    } else if (room == 0) {
      wasi_io_streams_own_pollable_t ready = wasi_io_streams_method_output_stream_subscribe(stream);
      wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
      wasi_io_poll_pollable_drop_own(ready);
    } else {
      web_list_u8_t part = {(uint8_t *)bytes, room < size ? (size_t)room : size};
      response->broken = !wasi_io_streams_method_output_stream_write(stream, &part, &error);
      bytes += part.len;
      size -= part.len;
    }
  }
  return response->broken ? -1 : 0;
}

static int send_buffered(gilliam_response *response) {
  size_t size = response->buffered;
  response->buffered = 0;
  return send(response, response->buffer, size);
}

int gilliam_write(gilliam_response *response, const void *data, size_t size) {
  if (response->buffered + size <= BUFFER_BYTES) {
    memcpy(response->buffer + response->buffered, data, size);
    response->buffered += size;
    return response->broken ? -1 : 0;
  }
  if (!response->begun) begin(response);
  return send_buffered(response) == 0 ? send(response, data, size) : -1;
}

int gilliam_print(gilliam_response *response, const char *format, ...) {
  char *line = NULL;
  va_list arguments;
  va_start(arguments, format);
  int size = vasprintf(&line, format, arguments);
  va_end(arguments);
  if (size < 0) return -1;
  int outcome = gilliam_write(response, line, (size_t)size);
  free(line);
  return outcome;
}

int gilliam_flush(gilliam_response *response) {
  if (!response->begun) begin(response);
  if (send_buffered(response) != 0) return -1;
  wasi_io_streams_stream_error_t error;
  wasi_io_streams_borrow_output_stream_t stream = wasi_io_streams_borrow_output_stream(response->stream);
  response->broken = !wasi_io_streams_method_output_stream_blocking_flush(stream, &error);
  return response->broken ? -1 : 0;
}

static void finish(gilliam_response *response) {
  if (!response->begun) {
    char length[24];
    snprintf(length, sizeof length, "%zu", response->buffered);
    web_string_t name = borrowed("content-length");
    if (!wasi_http_types_method_fields_has(wasi_http_types_borrow_fields(response->headers), &name)) {
      gilliam_set_header(response, "content-length", length);
    }
    begin(response);
  }
  send_buffered(response);
  wasi_io_streams_output_stream_drop_own(response->stream);
  wasi_http_types_error_code_t error;
  if (!response->broken) wasi_http_types_static_outgoing_body_finish(response->body, NULL, &error);
}

void exports_wasi_http_incoming_handler_handle(exports_wasi_http_incoming_handler_own_incoming_request_t own,
                                               exports_wasi_http_incoming_handler_own_response_outparam_t out) {
  static gilliam_request request;
  static gilliam_response response;
  memset(&request, 0, sizeof request);
  open_request(&request, own);
  response.status = 200;
  response.begun = response.broken = false;
  response.buffered = 0;
  response.out = out;
  response.headers = wasi_http_types_constructor_fields();
  gilliam_handle(&request, &response);
  finish(&response);
  fflush(NULL);
  if (request.has_body) wasi_io_streams_input_stream_drop_own(request.body);
}
