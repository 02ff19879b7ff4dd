/* HTTP for processes in C and C++: a program that defines gilliam_handle in place of main answers requests.
 *
 * It is called once per request, each time in a fresh instance: globals do not survive it. Text is NUL-terminated and,
 * like everything that is read of a request, lives until gilliam_handle returns.
 */
#ifndef GILLIAM_HTTP_H
#define GILLIAM_HTTP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gilliam_request gilliam_request;
typedef struct gilliam_response gilliam_response;

/* To be defined by the program. */
void gilliam_handle(gilliam_request *request, gilliam_response *response);

/* "GET", "POST" and so on. */
const char *gilliam_method(gilliam_request *request);
/* "/a/b", without the query. */
const char *gilliam_path(gilliam_request *request);
/* What follows "?"; empty without one. */
const char *gilliam_query(gilliam_request *request);
/* The first value of a header, in whatever case its name is written; NULL without one. */
const char *gilliam_header(gilliam_request *request, const char *name);
/* Reads at most size bytes of the body as they come: how many, 0 at its end, -1 when it broke off. */
long gilliam_read(gilliam_request *request, void *buffer, size_t size);

/* The status; 200 at first. Without effect once the answer has begun, as headers are. */
void gilliam_status(gilliam_response *response, int status);
/* Adds a header; 0, or -1 when it is not one that can be set. */
int gilliam_set_header(gilliam_response *response, const char *name, const char *value);
/* Writes a part of the body: 0, or -1 when the client has gone away. A body beyond 16 KiB is sent as it is written. */
int gilliam_write(gilliam_response *response, const void *data, size_t size);
/* The same, as printf does it. */
int gilliam_print(gilliam_response *response, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Sends what was written so far. */
int gilliam_flush(gilliam_response *response);

#ifdef __cplusplus
}
#endif

#endif
