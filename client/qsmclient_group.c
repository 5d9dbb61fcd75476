/* qsmclient_group: groups on a connection and the requests that open, leave and hold them. */
#include "qsmclient_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_REQUEST_BYTES (3u << 20) /* of one OpenGroups; FRAME_CONTROL_MAX is 4 MiB */
#define OPEN_GROUP_BYTES 32           /* of an OpenGroup without its name, rounded up */

struct qsm_group *group_find(struct qsm *q, uint32_t id)
{
    return id < q->id_count ? q->by_id[id] : NULL;
}

void group_bury(struct qsm *q, struct qsm_group *g)
{
    group_stop_sending(q, g);
    q->by_id[g->id] = NULL;
    HASH_DEL(q->by_name, g);
    SLIST_INSERT_HEAD(&q->dead, g, dead_next);
}

void free_dead(struct qsm *q)
{
    struct qsm_group *g;

    while ((g = SLIST_FIRST(&q->dead))) {
        SLIST_REMOVE_HEAD(&q->dead, dead_next);
        positions_free(g);
        free(g->tokens);
        free(g);
    }
}

static bool name_valid(const char *name)
{
    size_t bytes = strnlen(name, QSM_GROUP_NAME_MAX + 1);

    if (bytes == 0 || bytes > QSM_GROUP_NAME_MAX)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= ' ' || c == 0x7f)
            return false;
    }
    return true; /* the daemon checks the UTF-8 */
}

static int id_new(struct qsm *q, uint32_t *ret_id)
{
    for (uint32_t id = 0; id < q->id_count; id++) {
        if (!q->by_id[id]) {
            *ret_id = id;
            return 0;
        }
    }
    uint32_t count = q->id_count ? q->id_count * 2 : 16;
    struct qsm_group **list = realloc(q->by_id, count * sizeof(struct qsm_group *));
    if (!list)
        return -ENOMEM;
    for (uint32_t id = q->id_count; id < count; id++)
        list[id] = NULL;
    *ret_id = q->id_count;
    q->by_id = list;
    q->id_count = count;
    return 0;
}

/* The group of that name, made if there is none. */
static int group_get(struct qsm *q, const char *name, struct qsm_group **ret_group)
{
    struct qsm_group *g;
    uint32_t id;

    HASH_FIND_STR(q->by_name, name, g);
    if (g) {
        *ret_group = g;
        return g->leaving ? -EBUSY : 0;
    }
    int error = id_new(q, &id);
    if (error < 0)
        return error;
    size_t bytes = strlen(name) + 1;
    g = calloc(1, sizeof(*g) + bytes);
    if (!g)
        return -ENOMEM;
    g->qsm = q;
    g->id = id;
    memcpy(g->name, name, bytes);
    HASH_ADD_KEYPTR(hh, q->by_name, g->name, bytes - 1, g);
    if (!g->hh.tbl) {
        free(g);
        return -ENOMEM;
    }
    q->by_id[id] = g;
    *ret_group = g;
    return 0;
}

const char *qsm_group_name(const struct qsm_group *g)
{
    return g->name;
}

void qsm_group_set_data(struct qsm_group *g, void *data)
{
    g->data = data;
}

void *qsm_group_data(const struct qsm_group *g)
{
    return g->data;
}

/* ---- requests */

static struct request *request_new(struct qsm *q, enum request_kind kind, size_t count)
{
    struct request *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->groups = calloc(count ? count : 1, sizeof(*r->groups));
    r->id = ++q->next_request;
    r->kind = kind;
    r->count = count;
    if (r->groups)
        HASH_ADD(hh, q->requests, id, sizeof(r->id), r);
    if (!r->groups || !r->hh.tbl) {
        free(r->groups);
        free(r);
        return NULL;
    }
    return r;
}

void request_free(struct qsm *q, struct request *r)
{
    HASH_DEL(q->requests, r);
    free(r->groups);
    free(r);
}

/* Asks to open groups[0..count), which fit in one frame. */
static int request_open(struct qsm *q, struct qsm_group **groups, size_t count, unsigned mode,
                        bool waited, struct request **ret_request)
{
    Qsm__OpenGroups open = QSM__OPEN_GROUPS__INIT;
    Qsm__ToDaemon message = QSM__TO_DAEMON__INIT;
    Qsm__OpenGroup *list = calloc(count, sizeof(*list));
    Qsm__OpenGroup **pointers = calloc(count, sizeof(*pointers));
    struct request *r = request_new(q, REQUEST_OPEN, count);
    int error = -ENOMEM;

    if (list && pointers && r) {
        for (size_t i = 0; i < count; i++) {
            qsm__open_group__init(&list[i]);
            list[i].id = r->groups[i] = groups[i]->id;
            list[i].name = groups[i]->name;
            list[i].recv = mode & QSM_RECV;
            list[i].send = mode & QSM_SEND;
            list[i].no_echo = mode & QSM_NO_ECHO;
            list[i].latest = mode & QSM_LATEST;
            pointers[i] = &list[i];
        }
        r->mode = mode & (QSM_RECV | QSM_SEND);
        r->waited = waited;
        open.request = r->id;
        open.n_group = count;
        open.group = pointers;
        message.what_case = QSM__TO_DAEMON__WHAT_OPEN;
        message.open = &open;
        error = output_control(q, &message);
    }
    free(pointers);
    free(list);
    if (error < 0 && r)
        request_free(q, r);
    else
        *ret_request = r;
    return error;
}

int group_close(struct qsm *q, struct qsm_group *g, unsigned mode)
{
    Qsm__CloseGroup one = QSM__CLOSE_GROUP__INIT;
    Qsm__CloseGroup *list[] = {&one};
    Qsm__CloseGroups close_groups = QSM__CLOSE_GROUPS__INIT;
    Qsm__ToDaemon message = QSM__TO_DAEMON__INIT;
    struct request *r = request_new(q, REQUEST_CLOSE, 1);

    if (!r)
        return -ENOMEM;
    r->groups[0] = g->id;
    r->mode = mode;
    one.id = g->id;
    one.recv = mode & QSM_RECV;
    one.send = mode & QSM_SEND;
    close_groups.request = r->id;
    close_groups.n_group = 1;
    close_groups.group = list;
    message.what_case = QSM__TO_DAEMON__WHAT_CLOSE;
    message.close = &close_groups;
    int error = output_control(q, &message);
    if (error < 0)
        request_free(q, r);
    if (error == 0) {
        g->closes++;
        g->send_closes += (mode & QSM_SEND) != 0;
    }
    return error;
}

/* How many of the groups fit in one request. */
static size_t open_chunk(struct qsm_group **groups, size_t count)
{
    size_t bytes = 0, n = 0;

    while (n < count && (n == 0 || bytes < OPEN_REQUEST_BYTES)) {
        bytes += strlen(groups[n]->name) + OPEN_GROUP_BYTES;
        n++;
    }
    return n;
}

/* Gives back handles that were made and never opened. */
static void drop_unused(struct qsm *q, struct qsm_group **groups, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct qsm_group *g = groups[i];
        if (g && !g->mode && !g->live && !g->closes && group_find(q, g->id) == g)
            group_bury(q, g);
    }
    if (q->depth == 0)
        free_dead(q);
}

static int get_groups(struct qsm *q, const char *const *names, size_t count,
                      struct qsm_group **groups)
{
    for (size_t i = 0; i < count; i++) {
        int error = name_valid(names[i]) ? group_get(q, names[i], &groups[i]) : -EINVAL;
        if (error == 0)
            continue;
        if (error == -EINVAL)
            set_error(q, "a group name is 1 to 255 bytes of printable UTF-8 without spaces");
        if (error == -EBUSY)
            set_error(q, "%s: the group is being left", names[i]);
        drop_unused(q, groups, i);
        return error;
    }
    return 0;
}

/* Sends the requests for the groups; ret_requests has room for count. */
static int send_opens(struct qsm *q, struct qsm_group **groups, size_t count, unsigned mode,
                      bool waited, struct request **ret_requests, size_t *ret_count)
{
    size_t requests = 0;

    for (size_t i = 0; i < count;) {
        size_t n = open_chunk(groups + i, count - i);
        int error = request_open(q, groups + i, n, mode, waited, &ret_requests[requests]);
        if (error < 0) {
            *ret_count = requests;
            return error;
        }
        for (size_t j = i; j < i + n; j++) {
            groups[j]->mode |= mode & (QSM_RECV | QSM_SEND);
            if (mode & QSM_RECV)
                groups[j]->flags = mode & FLAGS;
        }
        requests++;
        i += n;
    }
    *ret_count = requests;
    return 0;
}

/* Waits for all requests and frees them; the first error of any. */
static int wait_requests(struct qsm *q, struct request **requests, size_t count, int64_t deadline)
{
    int result = 0;

    for (size_t i = 0; i < count; i++) {
        int error = wait_for(q, &requests[i]->done, deadline);
        if (error == 0)
            error = requests[i]->error;
        if (result == 0 || (result == -ETIMEDOUT && error < 0))
            result = error;
        /* Given up: its answer is not waited for, but `opened` is not called either. */
        request_free(q, requests[i]);
    }
    return result;
}

static int open_groups(struct qsm *q, const char *const *names, size_t count, unsigned mode,
                       const int *timeout_ms, struct qsm_group **ret_groups)
{
    if (q->lost)
        return -ENOTCONN;
    if (!(mode & (QSM_RECV | QSM_SEND)))
        return -EINVAL;
    if (count == 0)
        return 0;
    int64_t deadline = timeout_ms ? deadline_after(*timeout_ms) : 0;
    struct request **requests = calloc(count, sizeof(*requests));
    size_t request_count = 0;
    if (!requests)
        return -ENOMEM;
    q->error[0] = '\0';
    int error = get_groups(q, names, count, ret_groups);
    if (error < 0) {
        free(requests);
        return error;
    }
    error = send_opens(q, ret_groups, count, mode, timeout_ms != NULL, requests, &request_count);
    if (timeout_ms) {
        int waited = wait_requests(q, requests, request_count, deadline);
        error = error < 0 ? error : waited;
    }
    free(requests);
    if (error < 0 && error != -ETIMEDOUT) {
        for (size_t i = 0; i < count; i++) {
            if (q->lost || !(ret_groups[i]->mode & mode))
                continue;
            ret_groups[i]->mode &= ~mode;
            (void)group_close(q, ret_groups[i], mode);
            if (mode & QSM_SEND)
                group_give_up(q, ret_groups[i], error, "the group was not opened");
            ret_groups[i]->leaving = ret_groups[i]->mode == 0;
        }
        drop_unused(q, ret_groups, count);
    }
    return error;
}

int qsm_open(struct qsm *q, const char *const *names, size_t count, unsigned mode, int timeout_ms,
             struct qsm_group **ret_groups)
{
    if (q->depth > 0)
        return -EDEADLK;
    return open_groups(q, names, count, mode, &timeout_ms, ret_groups);
}

int qsm_open_start(struct qsm *q, const char *const *names, size_t count, unsigned mode,
                   struct qsm_group **ret_groups)
{
    return open_groups(q, names, count, mode, NULL, ret_groups);
}

int qsm_leave(struct qsm *q, struct qsm_group *g, unsigned mode)
{
    unsigned given_up = mode & (QSM_RECV | QSM_SEND);
    int error = 0;

    if (q->lost) {
        g->mode &= ~given_up;
    } else if (g->mode & given_up) {
        error = group_close(q, g, g->mode & given_up);
        if (error < 0)
            return error;
        g->mode &= ~given_up;
    }
    if (mode & QSM_SEND)
        group_give_up(q, g, -ECANCELED, "the group was left");
    if (g->mode != 0)
        return 0;
    g->leaving = true;
    if (g->closes == 0 && !g->live)
        group_bury(q, g);
    if (q->depth == 0)
        free_dead(q);
    return 0;
}

static int hold_or_release(struct qsm *q, const char *const *names, size_t count, bool join,
                           int timeout_ms)
{
    int64_t deadline = deadline_after(timeout_ms);
    Qsm__Hold hold = QSM__HOLD__INIT;
    Qsm__ToDaemon message = QSM__TO_DAEMON__INIT;

    if (q->depth > 0)
        return -EDEADLK;
    q->error[0] = '\0';
    struct request *r = request_new(q, REQUEST_HOLD, 0);
    if (!r)
        return -ENOMEM;
    r->waited = true;
    hold.request = r->id;
    /* protobuf-c only reads them, its fields are not const. */
    if (join) {
        hold.n_join = count;
        hold.join = (char **)(uintptr_t)names;
    } else {
        hold.n_leave = count;
        hold.leave = (char **)(uintptr_t)names;
    }
    message.what_case = QSM__TO_DAEMON__WHAT_HOLD;
    message.hold = &hold;
    int error = output_control(q, &message);
    if (error < 0) {
        request_free(q, r);
        return error;
    }
    return wait_requests(q, &r, 1, deadline);
}

int qsm_hold(struct qsm *q, const char *const *names, size_t count, int timeout_ms)
{
    return hold_or_release(q, names, count, true, timeout_ms);
}

int qsm_release(struct qsm *q, const char *const *names, size_t count, int timeout_ms)
{
    return hold_or_release(q, names, count, false, timeout_ms);
}

int groups_reopen(struct qsm *q, int64_t deadline)
{
    size_t count = HASH_COUNT(q->by_name);
    struct qsm_group **list = calloc(count + 1, sizeof(struct qsm_group *));
    struct request **requests = calloc(count + 1, sizeof(*requests));
    size_t request_count = 0;
    struct qsm_group *g, *next;
    int error = list && requests ? 0 : -ENOMEM;

    for (unsigned mode = QSM_RECV; mode <= (MODES | FLAGS) && error == 0; mode++) {
        size_t n = 0, sent = 0;
        HASH_ITER (hh, q->by_name, g, next) {
            if (g->mode != 0 && (g->mode | g->flags) == mode)
                list[n++] = g;
        }
        if (n > 0)
            error = send_opens(q, list, n, mode, true, requests + request_count, &sent);
        request_count += sent;
    }
    int waited = wait_requests(q, requests, request_count, deadline);
    free(requests);
    free(list);
    return error < 0 ? error : waited;
}
