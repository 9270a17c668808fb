/* A reader session: HTTP/2 on an upgraded connection, by libnghttp2. */
#ifndef PBSD_H2_H
#define PBSD_H2_H

#include "pbsd_conn.h"

/* Serves until the connection's end. */
void h2_serve(struct conn *c, const char *snapshot);

#endif
